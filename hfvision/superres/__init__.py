"""How good super-resolution is, and what it costs: models beside bicubic, Lanczos and OpenCV, in one run."""
