"""The readers of what a user of recipes gives, and trainings leave: options, presets, logs."""

from __future__ import annotations

import contextlib
import io
import json
from argparse import Namespace
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from data_prep import __main__ as command_line
from data_prep.support.errors import DataPrepError
from recipes.attention.alignment import read_alignments
from recipes.comparison.contenders import Contender, contender, read_preset
from recipes.support.errors import RecipeError
from recipes.training.training_log import column, parse_log
from tests.fuzzing.promises import Reader, choose, expect, is_for_the_user


def options(content: bytes, scratch: Path) -> None:
    """The options of data_prep, of methods to compare, in presets, and of our criterions."""
    choice, payload = choose(content, 4)
    words = payload.decode("utf-8", "surrogateescape").split("\n")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            if choice == 0:
                args = command_line._parser().parse_args(words)
                expect(callable(args.run), "nothing to run")
            elif choice == 1:
                found = contender(words[0])
                expect(isinstance(found, Contender) and "/" not in found.name, "a path")
            elif choice == 2:
                (scratch / "preset.txt").write_bytes(payload)
                expect(all(isinstance(w, str) for w in read_preset(scratch / "preset.txt")), "?")
            else:
                _criterion_options(words)
    except (DataPrepError, RecipeError) as error:
        is_for_the_user(error, [str(scratch / "preset.txt")] if choice == 2 else [])
    except SystemExit as ended:
        expect(ended.code in (0, 2), f"exit status {ended.code}")
        expect(bool(said.getvalue()), "it ended without a word")


def _criterion_options(words: Sequence[str]) -> None:
    """An option by its number, and a value: fairseq evaluates the values of some of its own."""
    from fairseq import options as of_fairseq

    name, known = _criterions()
    given = []
    for word in words:
        if word:
            criterion = name[ord(word[0]) % len(name)]
            option = known[criterion][ord(word[0]) % len(known[criterion])]
            given.append(f"{option}={word[1:]}" if word[1:] else option)
    fixed = ["nowhere", "--task", "adversarial_translation", "--arch", "transformer"]
    chosen = criterion if given else name[0]
    parsed = of_fairseq.parse_args_and_arch(
        of_fairseq.get_training_parser(), [*fixed, "--criterion", chosen, *given]
    )
    expect(isinstance(parsed, Namespace) and parsed.criterion == chosen, "another criterion")


@cache
def _criterions() -> tuple[list[str], dict[str, list[str]]]:
    from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
    from fairseq.dataclass.utils import gen_parser_from_dataclass

    import fairseq_adv.tasks  # noqa: F401  (registers them)

    known = {}
    for name, settings in CRITERION_DATACLASS_REGISTRY.items():
        if settings.__module__.startswith("fairseq_adv."):
            from argparse import ArgumentParser

            parser = ArgumentParser(add_help=False)
            gen_parser_from_dataclass(parser, settings())
            known[name] = sorted(parser._option_string_actions)
    return sorted(known), known


def _option_seeds() -> list[bytes]:
    files = "files\n--source-lang=de\n--target-lang\nen\n--train=a\n--hold-out\n10\n--out=b"
    release = "iwslt14-de-en\n--archive\na\nb\n--max-words=3\n--subword\nsentencepiece"
    preset = b"--criterion salt  # the method\n--adv-weight 0.5 --norm 'l2'\n"
    return [
        *(b"\0" + text.encode() for text in (files, release, "bidirectional\ndata\n--workers=1")),
        b"\x01salt,--dropout-masks=shared,--ascent-step-size=1",
        b"\x02" + preset,
        *(b"\x03" + bytes([start]) + b"0.5\n" + bytes([start + 1]) for start in range(65, 90, 3)),
    ]


def training_log(content: bytes, scratch: Path) -> None:
    """`parse_log`: records in the order of their updates, finite numbers."""
    try:
        log = parse_log(content, "some.log")
    except RecipeError as error:
        is_for_the_user(error, ["some.log"])
        return
    for records in (log.train, log.valid):
        updates = [record.update for record in records]
        expect(updates == sorted(set(updates)), f"updates {updates}")
        names = {name for record in records for name in record.values}
        for name in names:
            at, values = column(records, name)
            expect(len(at) == len(values), f"{name}: {len(at)} updates, {len(values)} values")
            expect(all(abs(value) < float("inf") for value in values), f"{name}: {values}")


def _log_seeds() -> list[bytes]:
    stamp = "2026-11-22 10:23:40 | INFO | {} | "
    train = {"epoch": 1, "update": 0.1, "loss": "13.06", "adv_gain": None, "num_updates": "10"}
    valid = {"epoch": 1, "valid_loss": "11.3", "valid_bleu": "0.01", "valid_num_updates": "20"}
    lines = [
        stamp.format("train_inner") + json.dumps({**train, "num_updates": n}) for n in (10, 20)
    ]
    lines.append(stamp.format("valid") + json.dumps(valid))
    return [
        "\n".join(lines).encode(),
        json.dumps(train).encode() + b"\n" + json.dumps(valid).encode(),
    ]


def alignments(content: bytes, scratch: Path) -> None:
    """`read_alignments`: a set of pairs of numbers for each line."""
    path = scratch / "links"
    path.write_bytes(content)
    try:
        found = read_alignments(path)
    except (DataPrepError, RecipeError) as error:
        is_for_the_user(error, [str(path)])
        return
    expect(len(found) == content.count(b"\n") + (content[-1:] not in (b"", b"\n")), "other lines")
    expect(all(min(link) >= 0 for links in found for link in links), "a number below 0")


def _alignment_seeds() -> list[bytes]:
    return [b"0-0 1-2 2-1\n\n3-4", b"0-0\r\n"]


RECIPES = {
    "options": Reader(options, _option_seeds),
    "log": Reader(training_log, _log_seeds),
    "alignments": Reader(alignments, _alignment_seeds),
}
