"""End what one has started."""

import subprocess
from collections.abc import Sequence
from typing import Any


def end_all(processes: "Sequence[subprocess.Popen[Any]]") -> None:
    """Ask processes to end, and wait until they have.

    A training finishes its update first, and one whose update hangs never would: it ends when it
    is asked again. So whoever asks this process meanwhile asks those.
    """
    waiting = list(processes)
    for process in waiting:
        process.terminate()
    while waiting:
        try:
            waiting[0].wait()
        except KeyboardInterrupt:
            for process in waiting:
                process.terminate()
        else:
            del waiting[0]
