"""Attacks on image classifiers, training against them, and evaluation that does not flatter."""
