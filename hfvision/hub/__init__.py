"""Models by name: loading, what is checked, shipped checkpoints."""
