"""Fuzz a reader of foreign bytes: `python -m tests.fuzzing READER --minutes 10`.

Needs atheris (`pip install atheris`), which nothing else does: it is no requirement. Inputs are
changed so that they reach new code of ours and of the libraries that read archives. An input that
breaks the reader's promise is kept, once per place in the code, and the fuzzer goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["data_prep", "recipes", "tarfile", "zipfile", "gzip"]):
    from tests.fuzzing.foreign_bytes import READERS, try_input

_SECONDS = 10  # for one input: longer counts as hanging
_MEGABYTES = 2048  # of the process
_LONGEST = 16_384  # bytes of an input


def _main() -> None:
    parser = argparse.ArgumentParser(prog="tests.fuzzing", description="Fuzz a reader.")
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--findings", type=Path, default=Path("results/fuzzing"), metavar="DIR")
    args = parser.parse_args()
    kept = args.findings / args.reader
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(READERS[args.reader].seeds()):
            (corpus / str(number)).write_bytes(seed)
        _fuzz(args.reader, args.minutes * 60, corpus, Path(folder, "scratch"), kept)


def _fuzz(reader: str, seconds: float, corpus: Path, scratch: Path, kept: Path) -> None:
    tried, findings = 0, set()
    begin = time.monotonic()

    def one(content: bytes) -> None:
        nonlocal tried
        try:
            try_input(reader, content, scratch)
        except Exception as error:
            place = "".join(traceback.format_tb(error.__traceback__)[-3:]) + type(error).__name__
            name = hashlib.sha256(place.encode()).hexdigest()[:12]
            if name not in findings:
                findings.add(name)
                (kept / name).write_bytes(content)
                print(f"\n{kept / name}: {content[:300]!r}", file=sys.stderr)
                traceback.print_exc()
        tried += 1
        if tried % 1000 == 0 or time.monotonic() - begin > seconds:
            spent = time.monotonic() - begin
            print(
                f"{reader}: {tried:,} inputs, {len(findings)} findings, {spent:.0f} s", flush=True
            )
            if spent > seconds:  # atheris takes an exit of ours for a fault
                shutil.rmtree(scratch.parent, ignore_errors=True)
                os._exit(1 if findings else 0)

    limits = [f"-timeout={_SECONDS}", f"-rss_limit_mb={_MEGABYTES}", f"-max_len={_LONGEST}"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={kept}/", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    _main()
