"""Models by name: loading, shipped checkpoints, publishing."""
