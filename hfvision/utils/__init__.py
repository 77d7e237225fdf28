"""Files, console output, reports."""
