"""Smaller and faster models that answer the same: folding, quantization, pruning, and the measuring of it."""
