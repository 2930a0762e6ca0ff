"""fairseq's binary format, made by ``fairseq-preprocess`` in a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from data_prep.errors import DataPrepError

LOG = "preprocess.log"


def binarize(
    bpe: Path, languages: tuple[str, str], directory: Path, log: Path, workers: int
) -> dict[str, Any]:
    """Fill ``directory`` with a joint dictionary and indexed data; fairseq's words go to ``log``.

    Raises DataPrepError with fairseq's last words if it fails.
    """
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--joined-dictionary"]
    command += ["--source-lang", languages[0], "--target-lang", languages[1]]
    for split in ("train", "valid", "test"):
        command += [f"--{split}pref", str(bpe / split)]
    command += ["--destdir", str(directory), "--workers", str(workers)]
    with log.open("w", encoding="utf-8") as stream:
        finished = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, check=False
        )
    if finished.returncode:
        text = log.read_text(encoding="utf-8", errors="replace")
        tail = "\n".join("  " + line for line in text.strip().splitlines()[-5:])
        raise DataPrepError(f"fairseq-preprocess failed (all of it in {log}):\n{tail}")
    # fairseq's copy of the log holds the time of day; without it equal inputs give equal files.
    (directory / LOG).unlink(missing_ok=True)
    dictionary = (directory / f"dict.{languages[0]}.txt").read_text(encoding="utf-8")
    return {"dictionary": dictionary.count("\n")}
