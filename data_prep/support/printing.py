"""What the user's own names and sentences go through where they are shown or noted.

Standard output may be of an encoding that lacks their characters, and a file's name may be bytes
that are no text at all. Neither is to end work of hours in a traceback: both become escapes.
"""

import io
import sys


def print_anything() -> None:
    """From here on print what standard output's encoding lacks as escapes, as on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """Return ``text`` as UTF-8 can hold it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
