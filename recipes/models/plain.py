"""Checkpoints of plain containers and tensors: what stock fairseq reads, and a stranger may."""

import argparse
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from recipes.models.checkpoint import updates_in


def plain_checkpoint(
    state: Mapping[str, Any],
    task: Mapping[str, Any],
    criterion: Mapping[str, Any],
    criterion_class: str,
) -> dict[str, Any]:
    """Return a checkpoint without all that stock fairseq cannot read or does not need.

    Weights are float32; there is neither the optimizer's state nor the average of ``--store-ema``.

    :param state: a checkpoint as `recipes.models.checkpoint.load_state` returns it.
    :param task: options of the task of fairseq that it is to be loaded as, `_name` included.
    :param criterion: likewise.
    :param criterion_class: what the criterion's class is called.
    """
    from fairseq.dataclass.configs import FairseqConfig
    from omegaconf import OmegaConf

    # The sections that fairseq's programs and hub look into are there, as if nothing were set.
    plain: dict[str, Any] = OmegaConf.to_container(
        OmegaConf.structured(FairseqConfig), enum_to_str=True
    )
    plain |= {
        "task": dict(task),
        "model": model_options(state["cfg"]["model"], str(criterion["_name"])),
        "criterion": dict(criterion),
    }
    return {
        "args": None,
        "cfg": plain,
        "model": _float32(state["model"]),
        "optimizer_history": [
            {
                **{"criterion_name": criterion_class, "optimizer_name": ""},
                "lr_scheduler_state": {},
                "num_updates": updates_in(state),
            }
        ],
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
    }


def options_of(section: Any, known: type) -> dict[str, Any]:
    """Return what a section of a configuration sets of the options in a dataclass of fairseq."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(section, resolve=True, enum_to_str=True)
    names = set(known.__dataclass_fields__)  # type: ignore[attr-defined]
    return {name: value for name, value in values.items() if name in names}


def model_options(model: Any, criterion: str) -> dict[str, Any]:
    """Return a model's own options, of a configuration that may hold all those of the training.

    :param model: a Namespace, as fairseq-train writes it, or a configuration of omegaconf.
    :param criterion: its name.
    """
    from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
    from omegaconf import OmegaConf

    values = vars(model) if isinstance(model, Namespace) else model
    values = OmegaConf.to_container(OmegaConf.create(values), resolve=True, enum_to_str=True)
    if isinstance(model, Namespace):
        defaults = Namespace()
        ARCH_CONFIG_REGISTRY[model.arch](defaults)
        parser = argparse.ArgumentParser()
        ARCH_MODEL_REGISTRY[model.arch].add_args(parser)
        own = vars(parser.parse_args([])).keys() | vars(defaults).keys()
        own |= {"arch", "_name", "max_source_positions", "max_target_positions"}
        values = {name: value for name, value in values.items() if name in own}
        values["criterion"] = criterion  # LSTMs ask for it
    # Files of embeddings to start from.
    return {name: None if name.endswith("embed_path") else v for name, v in values.items()}


def _float32(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights in float32; what is one tensor by two names, as if shared, stays one."""
    made: dict[Any, Any] = {}
    result = {}
    for name, weight in weights.items():
        key = (weight.data_ptr(), weight.shape, weight.stride()) if weight.numel() else name
        if key not in made:
            made[key] = weight.detach().float() if weight.is_floating_point() else weight.detach()
        result[name] = made[key]
    return result
