"""Read Hugging Face's layout: config.json, and weights in safetensors, in one file or several.

Both are a stranger's. Weights are numbers behind a header, and nothing of them is run.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol, Self

from data_prep.encoders.homes import WEIGHTS
from data_prep.support.errors import DataPrepError

if TYPE_CHECKING:  # torch takes seconds to import: whoever reads weights does so late
    from torch import Tensor

INDEX = f"{WEIGHTS}.index.json"
_EPSILON = {"bert": 1e-12, "roberta": 1e-5}  # of layer norms, as the architectures have it


@dataclass(frozen=True)
class Config:
    """Sizes of an encoder."""

    family: str  # bert or roberta
    layers: int
    dim: int
    inner: int
    heads: int
    positions: int  # rows of the table, of which RoBERTa's first two are for no word
    segments: int

    @property
    def max_positions(self) -> int:
        """The longest sequence, with its special symbols."""
        return self.positions - (2 if self.family == "roberta" else 0)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read config.json. Raises DataPrepError if it is of an encoder that is not known here."""
        content = read_json(path)
        family = content.get("model_type")
        if family not in _EPSILON:
            raise DataPrepError(f"{path}: model_type is {family!r}; bert and roberta are known")
        usual = {
            "hidden_act": "gelu",
            "position_embedding_type": "absolute",
            "layer_norm_eps": _EPSILON[family],
            "is_decoder": False,
            "add_cross_attention": False,
            "pad_token_id": 1 if family == "roberta" else content.get("pad_token_id"),
        }
        for name, value in usual.items():
            if content.get(name, value) != value:
                raise DataPrepError(
                    f"{path}: {name} is {content[name]!r}; fairseq's architecture has {value!r}"
                )
        made = cls(
            family,
            *(
                _size(content, name, path)
                for name in (
                    "num_hidden_layers",
                    "hidden_size",
                    "intermediate_size",
                    "num_attention_heads",
                    "max_position_embeddings",
                    "type_vocab_size",
                )
            ),
        )
        if made.dim % made.heads or made.max_positions < 1:
            raise DataPrepError(
                f"{path}: hidden_size {made.dim} and {made.heads} heads, {made.positions} positions"
                " do not fit"
            )
        if made.segments != (2 if family == "bert" else 1):
            raise DataPrepError(f"{path}: type_vocab_size is {made.segments}")
        return made


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raises DataPrepError if there is none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataPrepError(f"{path}: is missing") from None
    except (ValueError, RecursionError) as error:
        raise DataPrepError(f"{path}: is no JSON ({str(error)[:100]})") from error
    if not isinstance(content, dict):
        raise DataPrepError(f"{path}: is no JSON object")
    return content


def _size(content: dict[str, Any], name: str, path: Path) -> int:
    value = content.get(name)
    if type(value) is not int or not 0 < value < 1_000_000:
        raise DataPrepError(f"{path}: {name} is {value!r}, which is no size")
    return value


class Weights(Protocol):
    """Tensors by their names."""

    names: frozenset[str]

    def rows(self, name: str) -> int:
        """Return the first size of a tensor; raises DataPrepError if it is not there."""

    def get(self, name: str, shape: tuple[int, ...]) -> "Tensor":
        """Return a tensor in float32; raises DataPrepError if it is not there, or of that shape."""


class _Safetensors:
    def __init__(self, path: Path, files: dict[str, Any]) -> None:
        self.path = path
        self.names = frozenset(files)
        self._files = files

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self._files:
            raise DataPrepError(f"{self.path}: has no {name}")
        with damage(self.path):
            return tuple(self._files[name].get_slice(name).get_shape())

    def rows(self, name: str) -> int:
        return (*self._shape(name), 0)[0]

    def get(self, name: str, shape: tuple[int, ...]) -> "Tensor":
        found = self._shape(name)
        if found != shape:
            raise DataPrepError(
                f"{self.path}: {name} is of {_times(found)}; by config.json and the vocabulary it"
                f" is of {_times(shape)}"
            )
        with damage(self.path):
            tensor: Tensor = self._files[name].get_tensor(name)
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise DataPrepError(f"{self.path}: {name} has entries that are no finite numbers")
        return tensor.float()


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def weight_files(folder: Path) -> list[Path]:
    """Return the files of an encoder's weights. Raises DataPrepError if some are missing."""
    if (folder / INDEX).exists() and not (folder / WEIGHTS).exists():
        return sorted(set(_shards(folder).values()))
    if not (folder / WEIGHTS).exists():
        raise DataPrepError(
            f"{folder}: has neither {WEIGHTS} nor {INDEX}; weights in other formats, such as"
            " pickles, are not read"
        )
    return [folder / WEIGHTS]


def _shards(folder: Path) -> dict[str, Path]:
    path = folder / INDEX
    named = read_json(path).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise DataPrepError(f"{path}: has no weight_map")
    for name in named.values():
        if not isinstance(name, str) or PurePath(name).name != name or "\0" in name:
            raise DataPrepError(f"{path}: {name!r} is no name of a file beside it")
        if not (folder / name).is_file():
            raise DataPrepError(f"{path}: names {name}, which is missing")
    return {tensor: folder / name for tensor, name in named.items()}


@contextmanager
def open_weights(folder: Path) -> Iterator[Weights]:
    """Open the weights of an encoder. Raises DataPrepError if they are damaged."""
    from safetensors import safe_open

    paths = weight_files(folder)
    with ExitStack() as stack:
        files = {}
        for path in paths:
            with damage(path):
                opened = stack.enter_context(safe_open(path, framework="pt"))
                files.update(dict.fromkeys(opened.keys(), opened))
        yield _Safetensors(paths[0] if len(paths) == 1 else folder / INDEX, files)


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Make a DataPrepError of whatever a library in Rust raises for a file that is not whole."""
    try:
        yield
    except (OSError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # its panics are no Exception
        if isinstance(error, SystemExit | GeneratorExit | DataPrepError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise DataPrepError(f"{path}: is cut short or damaged ({reason})") from error
