"""What the criterions of all methods have in common."""
