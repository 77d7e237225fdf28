"""Vision transformers with separate projections and per-layer widths."""
