"""Do attention weights say which words matter? Beside gradient-based importance."""
