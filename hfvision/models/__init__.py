"""The model families: what is saved, loaded and pushed."""
