"""What happens to pixels: augmentation, crops, degradation, normalization."""
