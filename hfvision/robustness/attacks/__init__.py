"""Attacks: functions from images in [0, 1] to perturbed images in [0, 1]."""
