"""Types of command-line options."""

from argparse import ArgumentTypeError


def positive(text: str) -> int:
    """Return a whole number above 0; raises ArgumentTypeError if ``text`` is none."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
