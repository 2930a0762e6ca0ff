"""The options of methods, made from the settings of `core`; and methods, made from options.

A setting of `core` that says what it means is an option of that name, type and meaning; what a
method consists of is gone through in depth. What there is beside it, when games are played and how,
is written down here.

fairseq reads the types of these dataclasses at run time: there is no `from __future__ import
annotations` here, nor in the criterions.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import NoneType
from typing import Any, Literal, Optional, TypeVar, get_args, get_origin, get_type_hints

from fairseq.dataclass import ChoiceEnum
from omegaconf import II

from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.players.mixed import COLD
from fairseq_adv.core.players.start import Gaussian, Start
from fairseq_adv.core.settings import InvalidSetting
from fairseq_adv.criterions.common.unsupported import SurroundingsConfig
from fairseq_adv.games.sites import SITES

BOTH = "both"
_BOTH = ("source", "target")
"""What it stands for: the words of both."""

T = TypeVar("T")


@dataclass
class ScheduleConfig(SurroundingsConfig):
    """When the game is played, and with what weight."""

    adv_weight: float = field(
        default=1.0,
        metadata={"help": "weight alpha of the adversarial term in the objective"},
    )
    adv_interval: int = field(
        default=1,
        metadata={
            "help": "play the game every n-th update, its weight multiplied by n; the updates "
            "between are plain ones"
        },
    )
    adv_warmup_updates: int = field(
        default=0,
        metadata={"help": "let the weight grow from 0 to --adv-weight over so many updates"},
    )
    adv_parts: int = field(
        default=0,
        metadata={
            "help": "play each game on so many parts of the batch, one after another, in about so "
            "many times less memory; 0: on a CPU, where that takes no longer, as many as bring it "
            "near a plain update's; 1 on a GPU"
        },
    )
    gauge_interval: int = field(
        default=100,
        metadata={
            "help": "measure the gauges that cost extra passes (adv_gain, interaction) in every "
            "n-th game; 0: never"
        },
    )
    max_skipped_updates: int = field(
        default=10,
        metadata={
            "help": "an update whose gradient is not finite is skipped; end the training when more "
            "than so many in a row were"
        },
    )


@dataclass
class PerturbConfig(ScheduleConfig):
    """Whose words are perturbed, or what else."""

    perturb: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "what is perturbed: the word embeddings of source, target or both, attention "
            "scores (attention), or several, with commas between (default: all words that the "
            "task has)"
        },
    )
    explicit_attention: ChoiceEnum(["all", "perturbed"]) = field(  # type: ignore[valid-type]
        default="all",
        metadata={
            "help": "with --perturb attention: which passes of a game compute the scores that "
            "torch's fused attention hides: all, which then differ by perturbations and dropout "
            "masks alone, or perturbed: the clean pass is computed as plain updates are"
        },
    )


@dataclass
class ReplayConfig(PerturbConfig):
    """What a method that replays batches has to know of fairseq's other options."""

    max_update: int = II("optimization.max_update")
    train_subset: str = II("dataset.train_subset")
    update_freq: Any = II("optimization.update_freq")  # noqa: RUF009  (a string)


BALL: dict[str, Any] = {
    "epsilon": 1.0,
    "attention_epsilon": None,
    "norm": "l2",
    "norm_scope": "sentence",
    "directions": "free",
    "direction_words": 15,
}
STEP: dict[str, Any] = {
    "ascent_step_size": 0.3,
    "attention_step_size": None,
    "ascent_rule": "normalized",
}
ASCENT: dict[str, Any] = {**BALL, **STEP, "init_std": 1e-3, "ascent_steps": 1}
"""The active preset: see docs/presets.md."""
COMPARED: dict[str, Any] = {
    "dropout_masks": "independent",
    "divergence": "symmetric-kl",
    "clean_branch": "differentiated",
}


def options(name: str, *parts: type, base: type = PerturbConfig, **defaults: Any) -> type[Any]:
    """The dataclass of a criterion's options.

    :param parts: dataclasses of `core` whose settings are options, if they have a default here.
    :param base: options beside these.
    :param defaults: by name; an option whose meaning differs is a `dataclasses.field`.
    """
    known = {each.name: (each.type, each.metadata) for each in dataclasses.fields(base)}
    known |= {each.name: (_option_type(kind), each.metadata) for each, kind in _settings(parts)}
    made = []
    for setting, value in defaults.items():
        if setting not in known:
            raise TypeError(f"{name}: there is no setting {setting}")
        kind, metadata = known[setting]
        if not isinstance(value, dataclasses.Field):
            value = field(default=value, metadata=dict(metadata))
        made.append((setting, kind, value))
    found = dataclasses.make_dataclass(name, made, bases=(base,))
    found.__module__ = __name__
    found.__doc__ = f"Options of --criterion {name.removesuffix('Config').lower()}."
    return found


def _settings(parts: tuple[type, ...]) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """The settings of dataclasses and of those that they consist of, with their types."""
    for part in parts:
        kinds = get_type_hints(part)
        for each in dataclasses.fields(part):
            kind = kinds[each.name]
            if dataclasses.is_dataclass(kind) and isinstance(kind, type):
                yield from _settings((kind,))
            elif "help" in each.metadata:
                yield each, kind


def _option_type(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return ChoiceEnum(get_args(kind))
    if NoneType in get_args(kind):
        return Optional[next(k for k in get_args(kind) if k is not NoneType)]  # noqa: UP045
    return kind


def build(part: type[T], cfg: Any, **given: Any) -> T:
    """A dataclass of `core` with the settings that the options have. Raises InvalidSetting.

    :param given: settings that are no options, by name, at whatever depth.
    """
    unknown = given.keys() - set(_names(part))
    if unknown:
        raise TypeError(f"{part.__name__} has no {', '.join(sorted(unknown))}")
    return _build(part, cfg, given)


def _names(part: type) -> Iterator[str]:
    """Of all fields of a dataclass and of those that it consists of."""
    for name, kind in get_type_hints(part).items():
        yield name
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _names(kind)


def _build(part: type[T], cfg: Any, given: dict[str, Any]) -> T:
    kinds, found = get_type_hints(part), {}
    for each in dataclasses.fields(part):  # type: ignore[arg-type]
        kind = kinds[each.name]
        if each.name in given:
            found[each.name] = given[each.name]
        elif dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found[each.name] = _build(kind, cfg, given)
        elif "help" in each.metadata:
            value = getattr(cfg, each.name)
            found[each.name] = str(value) if isinstance(value, Enum) else value
    return part(**found)


def sites(cfg: PerturbConfig, words: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the sites that are perturbed.

    :param words: those of all words, unless the options say which.
    """
    if cfg.perturb is None:
        return words
    named = [name.strip() for name in str(cfg.perturb).split(",")]
    found = [site for name in named for site in (_BOTH if name == BOTH else (name,))]
    if len(set(found)) < len(found) or not set(found) <= SITES.keys():
        allowed = f"one or several of {', '.join(SITES)} (and {BOTH}: {' and '.join(_BOTH)}), once"
        raise InvalidSetting("perturb", cfg.perturb, allowed)
    return tuple(site for site in SITES if site in found)


def follower(
    cfg: Any, words: tuple[str, ...], *, start: Start | None = None, **given: Any
) -> Follower:
    """The follower that the options describe. Raises InvalidSetting.

    :param words: see `sites`.
    :param start: normally distributed, unless it is given.
    :param given: see `build`.
    """
    start = build(Gaussian, cfg) if start is None else start
    given = {"thermal": COLD, **given}
    return build(Follower, cfg, sites=sites(cfg, words), start=start, **given)
