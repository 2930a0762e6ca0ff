"""One stage of data_prep alone, as a process that `benchmarks.support.data` measures.

    python -m benchmarks.data_stages STAGE FOLDER TEXT SOURCE TARGET MERGES WORKERS

TEXT.SOURCE and TEXT.TARGET are the train set, FOLDER has what the stages before made of it.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from data_prep.binarize import binarize
from data_prep.corpora.files import FilesCorpus
from data_prep.pipeline import Pipeline
from data_prep.preparation import OURS
from data_prep.selection.counts import Subwords
from data_prep.selection.raw import Selection, write_raw
from data_prep.support.lines import count_lines, read_lines
from data_prep.text.bpe import count_words, learn_codes, segmenter

STAGES = ("raw", "tok", "learn", "bpe", "bin")


@dataclass(frozen=True)
class Task:
    """What is prepared.

    :param folder: of what all stages make, a folder each.
    :param text: the train set's path without the languages at its end.
    """

    folder: Path
    text: Path
    languages: tuple[str, str]
    merges: int

    def command(self, stage: str, workers: int) -> list[str]:
        """Return the command that does one stage."""
        words = [stage, self.folder, self.text, *self.languages, self.merges, workers]
        return [sys.executable, "-m", "benchmarks.data_stages", *map(str, words)]


def do(stage: str, task: Task, workers: int) -> None:
    """Do one stage; valid and test, which there must be, have a line each."""
    languages, folder = task.languages, task.folder
    one = {lang: next(read_lines(Path(f"{task.text}.{lang}"))) for lang in languages}
    for lang, line in one.items():
        (folder / f"one.{lang}").write_text(f"{line}\n", encoding="utf-8")
    prefixes = {"train": str(task.text), "valid": f"{folder}/one", "test": f"{folder}/one"}
    corpus = FilesCorpus(*languages, prefixes)
    pipeline = Pipeline("", corpus, OURS, Selection(None, None), folder, workers)
    tok, codes = folder / "tok", folder / "learn" / "codes"
    out = folder / stage
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if stage == "raw":
        write_raw(corpus, pipeline.preparation, pipeline.selection, out, workers)
        return
    pairs = {"train": count_lines(folder / "raw" / f"train.{languages[0]}"), "valid": 1, "test": 1}
    if stage == "tok":
        pipeline._tokenize(folder / "raw", pairs, out)
    elif stage == "learn":
        learn_codes(count_words(pipeline._train("words", tok, pairs)), task.merges, codes)
    elif stage == "bpe":
        pipeline._map_files("bpe", tok, pairs, out, lambda _: segmenter(codes), Subwords.of)
    else:
        binarize(folder / "bpe", languages, out, folder / "log", workers)


if __name__ == "__main__":
    name, folder, text, source, target, merges, workers = sys.argv[1:]
    do(name, Task(Path(folder), Path(text), (source, target), int(merges)), int(workers))
