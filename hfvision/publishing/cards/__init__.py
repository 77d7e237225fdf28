"""Model cards, generated from records."""
