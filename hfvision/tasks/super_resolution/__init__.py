"""Image super-resolution."""
