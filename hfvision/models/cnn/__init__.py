"""Convolutional networks whose configuration spells out every layer's width."""
