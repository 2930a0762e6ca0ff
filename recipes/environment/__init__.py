"""The Python environment of all commands."""
