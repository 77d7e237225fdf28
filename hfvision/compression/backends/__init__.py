"""Formats that compressed models are stored and run in."""
