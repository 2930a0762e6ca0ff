"""Which pairs are taken, and for which split."""
