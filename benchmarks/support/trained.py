"""A trained model and batches of its training data, for the benchmarks."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY
from fairseq.dataclass.configs import FairseqConfig
from omegaconf import OmegaConf

import fairseq_adv.tasks  # noqa: F401  (registers criterions, mends the loading of checkpoints)
from fairseq_adv.core.backward import Backward


@dataclass(frozen=True)
class Trained:
    """A model in training mode, and batches of its data."""

    model: Any
    task: Any
    batches: list[dict[str, Any]]

    def criterion(self, name: str, **options: Any) -> Any:
        """The criterion of that name with label smoothing 0.1 and, else, its defaults."""
        config = CRITERION_DATACLASS_REGISTRY[name](_name=name)
        for option, value in options.items():
            setattr(config, option, value)
        whole = OmegaConf.structured(FairseqConfig)  # which a criterion takes some options from
        whole.criterion = config
        return CRITERION_REGISTRY[name].build_criterion(whole.criterion, self.task)


def parser(doc: str) -> argparse.ArgumentParser:
    """What all benchmarks ask for."""
    result = argparse.ArgumentParser(description=doc.splitlines()[0])
    result.add_argument("data", help="binarised corpus")
    result.add_argument("--path", required=True, help="checkpoint of a model trained on it")
    result.add_argument("--activation-fn", help="in place of the model's own")
    result.add_argument("--batches", type=int, default=5)
    result.add_argument("--max-tokens", type=int, default=1500)
    return result


def load(options: argparse.Namespace) -> Trained:
    """The model and the first batches of an epoch, on one CPU thread."""
    torch.set_num_threads(1)
    overrides = {"data": options.data}
    if options.activation_fn:
        overrides["activation_fn"] = options.activation_fn
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([options.path], overrides)
    task.load_dataset("train")
    batches = task.get_batch_iterator(
        task.dataset("train"), max_tokens=options.max_tokens, seed=1
    ).next_epoch_itr()
    return Trained(model.train(), task, list(islice(batches, options.batches)))


backward = Backward()
