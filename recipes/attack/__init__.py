"""Attacks on classifiers: words that should not change an answer, and words that should."""
