"""Measuring and drawing what segmenters find."""
