"""fairseq's trainer on tiny models: updates from batches that are made by hand."""

from __future__ import annotations

import functools
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from torch import Tensor

from tests.methods.method_table import Row
from tests.support import tiny, training

LEARNING_RATE = 0.1


def options_of(row: Row) -> list[str]:
    """The row's options as on the command line."""
    return [
        *(f"--{name.replace('_', '-')}={value}" for name, value in row.options.items()),
        *row.training,
    ]


@functools.cache
def _configuration(criterion: str, *more: str) -> Any:
    """What fairseq-train makes of these options."""
    nowhere = Path("nowhere")
    arguments = training.arguments(nowhere, nowhere, *more, criterion=criterion)
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
    cfg.common.tpu = False  # which fairseq takes --bf16 for; see `compat.bf16_without_a_tpu`
    return cfg


def trainer(row: Row, model: Any, *more: str, family: tiny.Family = tiny.TRANSLATION) -> Trainer:
    """One that trains this model with the row's method, by plain gradient descent."""
    descent = ("--optimizer", "sgd", "--lr", str(LEARNING_RATE))
    of_task = [] if family is tiny.TRANSLATION else training.SENTENCES
    if family.plain.get("regression_target"):
        of_task = [*of_task, "--regression-target"]
    cfg = _configuration(row.criterion, *of_task, *descent, *options_of(row), *more)
    task = family.task()
    task = family.task(**{f.name: cfg.task[f.name] for f in fields(task.plain_options)})
    made = Trainer(cfg, task, model, task.build_criterion(cfg.criterion))
    made.reset_dummy_batch(family.batch(((4, 4), (2, 5)), seed=9))
    task.begin_epoch(1, model)
    return made


def update(trainer: Trainer, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """One update, with these batches accumulated. What it logs.

    fairseq takes the gradient's norm in float32, which torch refuses to do for float64.
    """
    norm = torch.norm
    untyped = lambda x, *args, dtype=None, **named: norm(x, *args, **named)  # noqa: E731
    in_its_own_type = patch.object(torch, "norm", untyped)
    with metrics.aggregate(new_root=True) as log, in_its_own_type:
        trainer.train_step(samples)
    return dict(log.get_smoothed_values())


def parameters(model: Any) -> list[Tensor]:
    """Copies of the parameters."""
    return [p.detach().clone() for p in model.parameters()]


def moved(model: Any, before: list[Tensor]) -> list[Tensor]:
    """How far gradient descent has moved the parameters."""
    with torch.no_grad():
        return [p - b for p, b in zip(model.parameters(), before, strict=True)]
