"""Images and data sets: what ships with the package, reading files, and degrading pictures for super-resolution."""
