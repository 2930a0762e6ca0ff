"""The bin stage: fairseq's layout for ``sentence_prediction``, input0, input1 and label.

The files are those of ``fairseq-preprocess --only-source``, by fairseq's own writer, which takes
numbers: pieces need no second look-up, and no process of its own.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.encoders.pieces import read_tokenizer, shortened
from data_prep.encoders.prepared import PreparedEncoder
from data_prep.sentences.corpus import Task
from data_prep.sentences.raw import raw_rows
from data_prep.support.lines import open_for_writing
from data_prep.support.progress import progress

_END = 2  # fairseq's </s>
_FIRST = 4  # of its numbers that is no special symbol's
_BATCH = 1000  # examples


def write_binary(
    raw: Path,
    facts: dict[str, Any],
    task: Task,
    encoder: PreparedEncoder,
    max_pieces: int,
    directory: Path,
) -> dict[str, Any]:
    """Fill ``directory`` with all splits of ``raw``, and return what was cut and truncated.

    :param facts: those of the raw stage.
    :param max_pieces: of an example, special symbols included.
    """
    inputs = ["input0", "input1"] if task.pairs else ["input0"]
    most = max_pieces - encoder.specials(len(inputs))
    for name in inputs:
        (directory / name).mkdir()
        (directory / name / "dict.txt").write_bytes((encoder.path / "dict.txt").read_bytes())
    (directory / "label").mkdir()
    if classes := facts["classes"]:
        with open_for_writing(directory / "label" / "dict.txt") as stream:
            counted = facts["labels"]["train"]
            for name in classes:
                stream.write(f"{name} {counted.get(name, 0)}\n")
    numbers: dict[str, Any] = {"truncated": {}, "longest": {}, "pieces": {}, "unknown": {}}
    for split, kept in facts["kept"].items():
        counts = _write_texts(raw / f"{split}.tsv", split, kept, encoder, most, directory, inputs)
        for what, number in counts.items():
            numbers[what][split] = number
        if split in facts["labelled"]:
            _write_labels(raw / f"{split}.tsv", split, task, classes, directory / "label")
    return {"max_pieces": max_pieces, **numbers}


def _write_texts(
    path: Path,
    split: str,
    kept: int,
    encoder: PreparedEncoder,
    most: int,
    directory: Path,
    inputs: Sequence[str],
) -> dict[str, int]:
    tokenizer = read_tokenizer(encoder.path)
    unknown = tokenizer.token_to_id("<unk>")
    counts = Counter(dict.fromkeys(("truncated", "longest", "pieces", "unknown"), 0))
    specials = encoder.specials(len(inputs))
    rows = raw_rows(path)
    with (
        _builders([directory / name / split for name in inputs], encoder) as builders,
        progress(None, f"bin: {split}", "example", kept) as bar,
    ):
        while batch := list(islice(rows, _BATCH)):
            columns = [
                [
                    encoding.ids
                    for encoding in tokenizer.encode_batch(
                        [texts[side] for _, texts in batch], add_special_tokens=False
                    )
                ]
                for side in range(len(inputs))
            ]
            for first, second in zip(
                columns[0], columns[1] if len(columns) > 1 else [None] * len(batch), strict=True
            ):
                pair = shortened(first, second, most)
                texts = [text for text in pair if text is not None]
                length = sum(map(len, texts))
                counts["truncated"] += length < len(first) + len(second or ())
                counts["longest"] = max(counts["longest"], length + specials)
                counts["pieces"] += length
                for builder, text in zip(builders, texts, strict=True):
                    counts["unknown"] += sum(number == unknown for number in text)
                    _add(builder, text)
            bar.update(len(batch))
    return dict(counts)


def _write_labels(
    path: Path, split: str, task: Task, classes: Sequence[str] | None, directory: Path
) -> None:
    if classes is None:
        with open_for_writing(directory / f"{split}.label") as stream:
            for label, _ in raw_rows(path):
                stream.write(f"{float(label) / task.divisor}\n")
        return
    numbers = {name: _FIRST + number for number, name in enumerate(classes)}
    with _builders([directory / split], _FIRST + len(classes)) as (builder,):
        for label, _ in raw_rows(path):
            _add(builder, [numbers[label]])


def _add(builder: Any, numbers: Sequence[int]) -> None:
    import torch

    builder.add_item(torch.tensor([*numbers, _END], dtype=torch.int32))


@contextmanager
def _builders(
    prefixes: Sequence[Path], dictionary: PreparedEncoder | int
) -> Iterator[Sequence[Any]]:
    """Open fairseq's writers of PREFIX.bin and, at the end, PREFIX.idx."""
    # <mask> is not in the file of an encoder's dictionary.
    words = dictionary if isinstance(dictionary, int) else int(dictionary.facts["symbols"]) - 1
    indexed_dataset = _writers()
    made = [
        indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=words)
        for prefix in prefixes
    ]
    yield made
    for builder, prefix in zip(made, prefixes, strict=True):
        builder.finalize(f"{prefix}.idx")


def _writers() -> Any:
    """Import fairseq's, which takes seconds, and most runs find all there; it says odd things."""
    logging.disable(logging.INFO)
    try:
        from fairseq.data import indexed_dataset
    finally:
        logging.disable(logging.NOTSET)
    return indexed_dataset
