"""Video: shots, summaries, flicker."""
