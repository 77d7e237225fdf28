"""Images and films: read from anywhere, written atomically."""
