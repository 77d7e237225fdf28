"""Super-resolution generators, discriminators, and the pair of both."""
