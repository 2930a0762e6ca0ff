"""What is measured on: models, real text in batches of so many tokens, and the machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recipes.comparison.measured import ONE_PROCESS
from recipes.support.errors import RecipeError

_SIX = "--encoder-layers 6 --decoder-layers 6"
_THREE = "--encoder-layers 3 --decoder-layers 3"


@dataclass(frozen=True)
class Model:
    """A model and how it is trained.

    :param options: of fairseq-train.
    :param max_tokens: of a batch on a CPU; padding counts. Of a classifier, sentences.
    :param gpu_tokens: of a batch on a GPU, which a small one would not keep busy.
    :param rounds: to measure, as many as there is patience for.
    :param task: fairseq's.
    """

    name: str
    options: str
    max_tokens: int
    gpu_tokens: int
    rounds: int
    task: str = "translation"


SMALL = Model(
    "small",  # of recipes/demo.sh
    f"{_THREE} --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4"
    " --decoder-embed-dim 128 --decoder-ffn-embed-dim 256 --decoder-attention-heads 4"
    " --encoder-normalize-before --decoder-normalize-before --dropout 0.2",
    max_tokens=4000,
    gpu_tokens=16000,
    rounds=5,
)
BASE = Model(
    "base",  # Vaswani et al. 2017
    f"{_SIX} --encoder-embed-dim 512 --encoder-ffn-embed-dim 2048 --encoder-attention-heads 8"
    " --decoder-embed-dim 512 --decoder-ffn-embed-dim 2048 --decoder-attention-heads 8"
    " --dropout 0.1",
    max_tokens=1500,
    gpu_tokens=8000,
    rounds=3,
)
MINILM = Model(
    "minilm",  # of data_prep encoder minilm: Wang et al. 2020
    "--arch bert_minilm --dropout 0.1 --attention-dropout 0.1 --pooler-dropout 0.1",
    max_tokens=32,
    gpu_tokens=256,
    rounds=3,
    task="sentence_prediction",
)

_TASKS = {
    "translation": (
        *("--arch", "transformer", "--share-all-embeddings"),
        *("--label-smoothing", "0.1", "--lr", "1e-4"),
    ),
    "sentence_prediction": (
        *("--init-token", "0", "--num-classes", "2", "--max-positions", "512"),
        *("--required-batch-size-multiple", "1", "--lr", "1e-5"),
    ),
}
"""What all trainings of a task have."""
PLAIN_CRITERIONS = {
    "translation": "label_smoothed_cross_entropy",
    "sentence_prediction": "sentence_prediction",
}
"""fairseq's own."""


@dataclass(frozen=True)
class Setup:
    """What the command line asks for.

    :param corpus: a directory that data_prep made.
    :param models: to measure on, in turn.
    :param classifiers: the same; their sentences are in CORPUS-sentences.
    :param threads: of torch, to measure with, in turn.
    :param asked_rounds: see `rounds`.
    :param quick: measure on less, to see that all works: the figures mean little.
    :param cuda: on a GPU.
    :param out: directory of the results.
    :param clock: seconds.
    """

    corpus: Path
    models: tuple[Model, ...]
    threads: tuple[int, ...]
    asked_rounds: int | None
    quick: bool
    cuda: bool
    out: Path
    classifiers: tuple[Model, ...] = ()
    clock: Callable[[], float] = time.perf_counter

    def tokens(self, model: Model) -> int:
        """Return the tokens of a batch."""
        tokens = model.gpu_tokens if self.cuda else model.max_tokens
        return tokens // 5 if self.quick else tokens

    def rounds(self, model: Model) -> int:
        """Return the rounds of all contenders, of which the median is taken."""
        return self.asked_rounds or (2 if self.quick else model.rounds)

    def options(self, model: Model, corpus: Path | None = None) -> list[str]:
        """Return the options of fairseq-train that all contenders have. Raises RecipeError.

        :param corpus: in place of the setup's own.
        """
        corpus = corpus or self.corpus
        limit = "--max-tokens"
        if model.task == "sentence_prediction":
            corpus, limit = Path(f"{corpus}-sentences"), "--batch-size"
            if not (corpus / "bin").is_dir():
                raise RecipeError(f"{corpus}/bin: not there; make bench prepares it")
        return [
            *(str(corpus / "bin"), *ONE_PROCESS, "--task", model.task),
            *(*_TASKS[model.task], *model.options.split()),
            *("--optimizer", "adam", "--adam-betas", "(0.9, 0.98)"),
            *("--seed", "1", limit, str(self.tokens(model))),
            *("--save-dir", str(self.out / "checkpoints")),  # where none is written
            *([] if self.cuda else ["--cpu"]),
        ]
