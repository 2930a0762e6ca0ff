"""How predictions of two passes are compared, and losses of them evaluated."""
