"""Scores, calibration, robustness."""
