"""fairseq's commands run in this process, on a toy language, for the tests of whole trainings."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils
from fairseq_cli import generate, preprocess, train
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.override_parser.overrides_parser import OverridesParser

import fairseq_adv.tasks
from fairseq_adv.trainer import checkpoints


def _read_options_once() -> None:
    """Let hydra parse an option once, and not copy all of its store of configurations each time.

    That was two thirds of a short training. The configuration is the same, to the last value.
    """
    parse, parsed = OverridesParser.parse_rule, dict[tuple[str, str], Any]()

    def parse_once(self: OverridesParser, text: str, rule: str) -> Any:
        if (text, rule) not in parsed:
            parsed[text, rule] = parse(self, text, rule)
        return parsed[text, rule]

    def without_copying(self: CachingConfigRepository, delegate: Any) -> None:
        self.delegate, self.cache = delegate, {}

    OverridesParser.parse_rule = parse_once  # type: ignore[method-assign]
    CachingConfigRepository.__init__ = without_copying  # type: ignore[method-assign]


_read_options_once()

USER_DIR = str(Path(fairseq_adv.__file__).parent)

MODEL = [
    *["--arch", "transformer", "--share-all-embeddings", "--dropout", "0.1"],
    *["--encoder-layers", "1", "--decoder-layers", "1"],
    *["--encoder-embed-dim", "16", "--decoder-embed-dim", "16"],
    *["--encoder-ffn-embed-dim", "16", "--decoder-ffn-embed-dim", "16"],
    *["--encoder-attention-heads", "2", "--decoder-attention-heads", "2"],
]


def make_data(folder: Path, sizes: dict[str, int], words: tuple[int, int] = (1, 7)) -> Path:
    """Binarised pairs of a toy language, of so many words: the target is the source in reverse."""
    rng = random.Random(1)
    for split, size in sizes.items():
        with (
            open(folder / f"{split}.a", "w", encoding="utf-8") as source,
            open(folder / f"{split}.b", "w", encoding="utf-8") as target,
        ):
            for _ in range(size):
                sentence = [f"w{rng.randrange(20)}" for _ in range(rng.randint(*words))]
                print(*sentence, file=source)
                print(*reversed(sentence), file=target)
    parser = options.get_preprocessing_parser()
    prefs = [f"--{split}pref={folder / split}" for split in sizes]
    arguments = ["-s", "a", "-t", "b", "--destdir", str(folder / "bin"), "--joined-dictionary"]
    preprocess.main(parser.parse_args([*prefs, *arguments]))
    return folder / "bin"


def make_sentences(folder: Path, sizes: dict[str, int], *, numbers: bool = False) -> Path:
    """Binarised sentences of 1 to 7 words, in the layout of fairseq's sentence prediction.

    A sentence is of class 1 where it has more of the first ten words than of the others; with
    numbers, it has a score, the difference per word.
    """
    rng = random.Random(1)
    for split, size in sizes.items():
        texts = [[rng.randrange(20) for _ in range(rng.randint(1, 7))] for _ in range(size)]
        scores = [sum(1 if word < 10 else -1 for word in text) / len(text) for text in texts]
        lines = [" ".join(f"w{word}" for word in text) for text in texts]
        labels = [str(score) if numbers else str(int(score > 0)) for score in scores]
        for name, content in (("text", lines), ("label", labels)):
            (folder / f"{split}.{name}").write_text("\n".join(content) + "\n", encoding="utf-8")
    parser = options.get_preprocessing_parser()
    for name, target in (("text", "input0"), ("label", "label")):
        if name == "label" and numbers:
            (folder / "bin" / "label").mkdir()
            for split in sizes:
                shutil.copy(folder / f"{split}.label", folder / "bin" / "label" / f"{split}.label")
            continue
        prefs = [f"--{split}pref={folder / split}.{name}" for split in sizes]
        more = ["--only-source", "--destdir", str(folder / "bin" / target)]
        preprocess.main(parser.parse_args([*prefs, *more]))
    return folder / "bin"


LSTM = ["--arch", "lstm", "--encoder-embed-dim", "16", "--decoder-embed-dim", "16"]


TRANSLATION = ["--task", "adversarial_translation", "--label-smoothing", "0.1"]
SENTENCES = [
    *["--task", "adversarial_sentence_prediction", "--init-token", "0", "--num-classes", "2"],
    *["--arch", "roberta", "--max-positions", "30", "--dropout", "0.1"],
    *["--encoder-layers", "1", "--encoder-attention-heads", "2"],
    *["--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16"],
]
"""What classifies data of `make_sentences`."""


def arguments(data: Path, save_dir: Path, *more: str, criterion: str = "salt") -> list[str]:
    """A short training on the CPU, of a translation model unless a --task is among the options.

    An --arch among them replaces the model.
    """
    return [
        *[str(data), "--user-dir", USER_DIR, "--criterion", criterion],
        *([] if "--task" in more else TRANSLATION),
        *([] if "--arch" in more else MODEL),
        *["--optimizer", "adam", "--lr", "1e-3", "--max-tokens", "60", "--cpu"],
        *["--num-workers", "0"],
        *["--max-update", "4", "--log-interval", "1", "--log-format", "json"],
        *["--save-dir", str(save_dir), "--no-epoch-checkpoints", "--seed", "5", *more],
    ]


def run_training(data: Path, save_dir: Path, *more: str, criterion: str = "salt") -> None:
    """fairseq-train."""
    parser = options.get_training_parser()
    parsed = options.parse_args_and_arch(
        parser, input_args=arguments(data, save_dir, *more, criterion=criterion)
    )
    with in_its_own_process():
        distributed_utils.call_main(convert_namespace_to_omegaconf(parsed), train.main)


@contextlib.contextmanager
def in_its_own_process() -> Iterator[None]:
    """A training as if in a process that ends with the block: then others may go on with it."""
    try:
        yield
    finally:
        for claim in checkpoints._claims.values():
            claim.close()
        checkpoints._claims.clear()


def state(save_dir: Path) -> dict[str, Any]:
    """The last checkpoint."""
    return dict(torch.load(save_dir / "checkpoint_last.pt"))


def parameters(save_dir: Path) -> dict[str, torch.Tensor]:
    """The trained parameters."""
    return dict(state(save_dir)["model"])


def log_of(records: list[logging.LogRecord], logger: str = "train_inner") -> list[dict[str, Any]]:
    """What the training logged, a line each."""
    return [json.loads(r.getMessage()) for r in records if r.name == logger]


def translations(data: Path, checkpoint: Path, *more: str) -> dict[int, str]:
    """fairseq-generate on the test split: hypotheses by sentence id."""
    parser = options.get_generation_parser()
    args = options.parse_args_and_arch(
        parser,
        [str(data), "--path", str(checkpoint), "--cpu", "--beam", "2", "--num-workers", "0", *more],
    )
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        generate.main(convert_namespace_to_omegaconf(args))
    lines = [line.split("\t") for line in output.getvalue().splitlines() if line[:2] == "H-"]
    assert len({name for name, *_ in lines}) == len(lines)
    return {int(name[2:]): text for name, _, text in lines}


@dataclass(frozen=True)
class Kind:
    """A kind of task: what its data is called in conftest.py, and its options.

    :param task: the name of its class, for what it keeps in checkpoints.
    :param clean_loss: what that is called in the log.
    """

    fixture: str
    options: tuple[str, ...]
    task: str
    clean_loss: str


KINDS = {
    "translation": Kind("toy_data", (), "AdversarialTranslationTask", "nll_loss"),
    "sentences": Kind(
        "toy_sentences", tuple(SENTENCES), "AdversarialSentencePredictionTask", "clean_loss"
    ),
}
