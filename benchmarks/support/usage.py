"""Run a command and write what it took: `python -m benchmarks.support.usage FILE COMMAND...`.

In a process of its own, which is small: the system counts the memory of the process that starts
another one as that one's peak too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    file, *command = sys.argv[1:]
    began = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    found = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
    }
    process.returncode = os.waitstatus_to_exitcode(status)
    Path(file).write_text(json.dumps(found), encoding="utf-8")
    sys.exit(process.returncode)
