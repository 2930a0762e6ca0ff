"""Read checkpoints of unknown origin without running what is in them.

A checkpoint is a pickle, which can name any function of Python and call it. `torch.load` calls what
is allowed here, and refuses a file that names anything else. Beside that, fairseq hands options to
`eval`, and those of a checkpoint are part of it: here they are values and sums, never calls.
Tests: test_safe_loading.py and test_option_values.py in tests/trainer/.
"""

from __future__ import annotations

import ast
import functools
import importlib
import operator
import os
import re
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.models import FairseqEncoderDecoderModel
from omegaconf import AnyNode, DictConfig, ListConfig
from omegaconf.base import ContainerMetadata, Metadata


class CheckpointRefused(SystemExit):
    """A file that is not read, since it could run code or is no checkpoint.

    The message is for the user. It ends a program of fairseq without a traceback.
    """


def allowed() -> list[Any]:
    """Return what a pickle may call, and of what class an object in it may be.

    It may call them with whatever arguments, and put whatever attributes into an object; whatever
    is called later through such attributes is again one of these, for a pickle can refer to nothing
    else. Hence each has to be harmless with any arguments.
    """
    scalar, array = np.float64(0).__reduce__()[0], np.empty(0).__reduce__()[0]
    return [
        # Options, before omegaconf. Takes attributes; runs nothing.
        Namespace,
        # Numbers and arrays, in meters. They take shapes, types and bytes, and check that these
        # agree. Arrays of objects hold what is in the pickle. A structured type, in which flags
        # of the pickle's choice could make bytes pass for objects, cannot be built: of the classes
        # of types, only those of plain numbers are here.
        *(np.ndarray, np.dtype, scalar, array),
        (scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
        (array, "numpy.core.multiarray._reconstruct"),
        *(type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "?")),
        # The configuration, as one worker broadcasts it to the others. Strings in it may refer to
        # each other and, by ${oc.env:NAME}, to variables of the environment; nothing is called.
        *(DictConfig, ListConfig, AnyNode, ContainerMetadata, Metadata),
        *(Any, defaultdict, dict, list, int),  # what those are made of; classes without effects
        # A place that a broadcast tensor is put into: a number.
        distributed_utils._TensorPlaceholder,
    ]


def refuse_code() -> None:
    """Let checkpoints be read with what is `allowed`, and refused in one line otherwise."""
    torch.serialization.add_safe_globals(allowed())
    # It would make torch.load run whatever a file tells it to.
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    for name in ("load_checkpoint_to_cpu", "load_ema_from_checkpoint"):
        setattr(checkpoint_utils, name, _refusing(getattr(checkpoint_utils, name)))
    _evaluate_values_only()


def _refusing(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def loading(path: str, *args: Any, **kwargs: Any) -> Any:
        with refusals(Path(path)):
            return _of_today(load(path, *args, **kwargs))

    return loading


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Make a CheckpointRefused, which names ``path``, of what is raised for a file that is damaged.

    A missing file stays a FileNotFoundError, and so do other faults of the system.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    # A file with damaged or invented instructions can make torch raise anything.
    except Exception as error:
        text = str(error)
        if found := _FORBIDDEN.search(text):
            name = next(group for group in found.groups() if group)
            raise CheckpointRefused(
                f"fairseq_adv: {path}: refused, for it carries code: it names {name}, which no"
                " checkpoint of fairseq does.\nIt was not run. Get the file from a source that you"
                " trust; weights alone (its entry `model`) would be read."
            ) from None
        raise CheckpointRefused(
            f"fairseq_adv: {path}: no checkpoint of fairseq, or not a whole one"
            f" ({type(error).__name__}: {_reason(text)}); get it again, or give another"
        ) from None


# How torch says what it refuses to call; of builtins it leaves the module out.
_FORBIDDEN = re.compile(
    r"GLOBAL (\S+) (?:was not an allowed|whose module)"
    r"|call reduce for unrecognized function (.+)"
    r"|Can only (?:build|create new object) .* but got <class '(.+)'>"
)
# What is behind it is the reason, in torch's page of advice.
_REASON = "WeightsUnpickler error: "


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.rpartition(_REASON)[2].splitlines() if line.strip()]
    return lines[0][:150] if lines else "no more is known"


# Copies of the weights that fairseq 0.12.0 to 0.12.2 keep in each layer of a Transformer's encoder
# for inference; they are made anew from the weights whenever those are loaded.
_COPY = re.compile(r"(.*encoder\.layers\.\d+\.)(?:in_proj|out_proj|fc1|fc2)_(?:weight|bias)")


def _of_today(state: Any) -> Any:
    """Return a checkpoint of fairseq 0.10 to 0.12 as one of 0.12.3."""
    weights = state.get("model")
    if weights is not None:
        for name in list(weights):
            copied = _COPY.fullmatch(name)
            if copied and f"{copied[1]}fc1.weight" in weights:
                del weights[name]
    # Up to 0.10 these could be left out.
    for options in (getattr(state.get("cfg"), "task", None), state.get("args")):
        for name in ("eval_bleu_args", "eval_bleu_detok_args"):
            if options is not None and getattr(options, name, "") is None:
                setattr(options, name, "{}")
    return state


class NotAValue(ValueError):
    """An option that is more than values and sums of them."""


_EVALUATE = (
    *("utils", "criterions.ctc", "data.audio.raw_audio_dataset", "data.codedataset"),
    *(f"models.{name}" for name in ("fconv", "fconv_lm", "fconv_self_att", "lightconv_lm")),
    *("models.transformer_lm", "models.hubert.hubert", "models.multires_hubert.multires_hubert"),
    *("models.wav2vec.wav2vec", "models.wav2vec.wav2vec2"),
    "models.speech_to_text.s2t_wav_transformer",
    *(f"optim.{name}" for name in ("adam", "cpu_adam", "adamax", "adafactor")),
    "optim.fused_lamb",
)
"""The modules of fairseq that call `eval`."""


def _evaluate_values_only() -> None:
    for name in _EVALUATE:
        importlib.import_module(f"fairseq.{name}").eval = value_of  # type: ignore[attr-defined]
    load = checkpoint_utils.load_model_ensemble_and_task

    @functools.wraps(load)
    def naming_the_file(filenames: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            found = load(filenames, *args, **kwargs)
            for model in found[0]:
                _try(model, found[-1])
            return found
        except NotAValue as error:
            raise CheckpointRefused(
                f"fairseq_adv: {', '.join(filenames)}: refused, for it carries code: {error}.\n"
                "It was not run. Get the file from a source that you trust."
            ) from None
        except (OSError, MemoryError, torch.OutOfMemoryError):
            raise
        # Options of wrong types, or that are missing, can make fairseq raise anything.
        except Exception as error:
            raise CheckpointRefused(
                f"fairseq_adv: {', '.join(filenames)}: no model can be made of it with these data:"
                f" {_last_line(error)}"
            ) from error

    checkpoint_utils.load_model_ensemble_and_task = naming_the_file


def _try(model: Any, task: Any) -> None:
    """Translate nothing with a model: options of wrong types may only be met in a pass."""
    if not isinstance(model, FairseqEncoderDecoderModel) or task.target_dictionary is None:
        return
    parameter = next(model.parameters())
    end = torch.full((1, 1), task.target_dictionary.eos(), device=parameter.device)
    training = model.training
    with torch.no_grad():
        model.eval()(end, end.new_ones(1), end)
    model.train(training)


def _last_line(error: BaseException) -> str:
    """What torch says of weights ends with one that does not fit."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[-1][:200]} ({type(error).__name__})" if lines else type(error).__name__


@contextmanager
def what_does_not_fit_is_named(filename: str) -> Iterator[None]:
    """End a training in one line that cannot go on from, or begin with, a checkpoint."""
    try:
        yield
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        cause = error.__context__ or error  # of weights, fairseq does not say what is wrong
        raise CheckpointRefused(
            f"fairseq_adv: {filename}: no training with this model and these options goes on"
            f" from it: {_last_line(cause)}"
        ) from error


_LONGEST = 10_000  # items of a list
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def value_of(text: str) -> Any:
    """Return what `eval` would, of numbers, strings, lists, tuples, dictionaries and sums of them.

    For example ``[(512, 3)] * 4 + [(768, 3)]``. Raises NotAValue for all else, and TypeError where
    `eval` does, which fairseq relies on.
    """
    if not isinstance(text, str):
        raise TypeError(f"an option's value has to be a string, not {text!r}")
    try:
        return _value(ast.parse(text.lstrip(" \t"), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        shown = text if len(text) <= 80 else f"{text[:80]}..."
        raise NotAValue(
            f"the option {shown!r} is not made of numbers, strings, lists and + - * / ** alone"
        ) from None


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.List(items):
            return [_value(item) for item in items]
        case ast.Tuple(items):
            return tuple(_value(item) for item in items)
        case ast.Dict(keys, values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_value(key): _value(value) for key, value in pairs if key is not None}
        case ast.UnaryOp(sign, operand) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_value(operand))
        case ast.BinOp(left, sign, right) if type(sign) in _OPERATORS:
            return _calculated(type(sign), _value(left), _value(right))
    raise ValueError("a name, a call, or something else")


def _calculated(sign: type[ast.AST], left: Any, right: Any) -> Any:
    """Return the result of an operator, unless it would fill the memory."""
    if sign is ast.Pow and (abs(left) > 1e6 or abs(right) > 100):
        raise ValueError("too large")
    if sign is ast.Mult:
        for one, other in ((left, right), (right, left)):
            if isinstance(one, list | tuple | str | bytes) and len(one) * other > _LONGEST:
                raise ValueError("too long")
    return _OPERATORS[sign](left, right)
