"""The one exception that stands for a mistake in the input, the options or the machine."""

import io
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from data_prep.support.errors import DataPrepError
from data_prep.support.printing import print_anything


class RecipeError(Exception):
    """Something the user can mend; the message is one or two lines and says what and where."""


def run_main(program: str, main: Callable[[], None]) -> int:
    """Call ``main``; return 0, or 1 after one message on stderr, or 130 if interrupted.

    A kill counts as an interruption, so that temporary files and child processes go as well. What
    is printed is seen line by line, also in a file or by another program.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, _interrupt)
    print_anything()
    try:
        main()
    except (RecipeError, DataPrepError) as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"{program}: error: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
