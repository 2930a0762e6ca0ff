"""fairseq's binary format, made by ``fairseq-preprocess`` in a process of its own."""

import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from data_prep.selection.counts import SPLITS
from data_prep.support.errors import DataPrepError
from data_prep.support.progress import progress

LOG = "preprocess.log"

_BYTES = 2  # of a token in fairseq's files, if there are fewer than 65,500 different ones


def binarize(
    bpe: Path,
    languages: tuple[str, str],
    directory: Path,
    log: Path,
    workers: int,
    splits: Iterable[str] = SPLITS,
    dictionary: Path | None = None,
    target_dictionary: Path | None = None,
    joined: bool = True,
    size: int | None = None,
    tokens: int | None = None,
) -> dict[str, Any]:
    """Fill ``directory`` with dictionaries and indexed data; fairseq's words go to ``log``.

    A dictionary has at most ``size`` entries, or all. If ``joined`` both languages have the same
    one. It is a copy of ``dictionary`` or, if that is None, made of the words in train. If not
    ``joined``, ``dictionary`` is the source's, and the target's is a copy of ``target_dictionary``
    or made of train. The progress bar knows how many ``tokens`` there are, ends of sentences among
    them.
    Raises DataPrepError with fairseq's last words if it fails.
    """
    command = [sys.executable, "-m", "fairseq_cli.preprocess"]
    command += ["--joined-dictionary"] if joined else []
    command += ["--source-lang", languages[0], "--target-lang", languages[1]]
    for split in splits:
        command += [f"--{split}pref", str(bpe / split)]
    if size is not None:
        command += ["--nwordssrc", str(size), "--nwordstgt", str(size)]
    if dictionary is not None:
        command += ["--srcdict", str(dictionary)]
    if target_dictionary is not None:
        command += ["--tgtdict", str(target_dictionary)]
    # fairseq cuts a file into as many parts as it has workers, and leaves the first part until all
    # others are done: of two parts only one is made at a time.
    parts = workers + 1 if workers > 1 else 1
    command += ["--destdir", str(directory), "--workers", str(parts)]
    with (
        log.open("w", encoding="utf-8") as stream,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        ) as process,
    ):
        _wait(process, directory, tokens)
    if process.returncode:
        text = log.read_text(encoding="utf-8", errors="replace")
        tail = "\n".join("  " + line for line in text.strip().splitlines()[-5:])
        raise DataPrepError(f"fairseq-preprocess failed (all of it in {log}):\n{tail}")
    # fairseq's copy of the log holds the time of day; without it equal inputs give equal files.
    (directory / LOG).unlink(missing_ok=True)
    return {
        "dictionary": {
            lang: (directory / f"dict.{lang}.txt").read_text(encoding="utf-8").count("\n")
            for lang in languages
        }
    }


def _wait(process: "subprocess.Popen[bytes]", directory: Path, tokens: int | None) -> None:
    """Show how much is written until the process ends."""
    try:
        with progress(None, "bin", "token", tokens) as bar:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
                with suppress(FileNotFoundError):  # parts come and go
                    written = sum(file.stat().st_size for file in directory.glob("*.bin"))
                    bar.update(max(0, written // _BYTES - bar.n))
    except BaseException:
        process.kill()
        raise
