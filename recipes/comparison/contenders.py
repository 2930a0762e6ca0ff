"""What is compared: a preset's name, with changes to it or without."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.support.errors import RecipeError
from recipes.support.methods import label_of, preset_and_changes

PRESETS = Path(__file__).parents[1] / "presets"
PLAIN = "transformer"

_CHANGE = re.compile(r"--[a-z][a-z-]*(=[\w.+,-]+)?", re.ASCII)  # it becomes part of a path


@dataclass(frozen=True)
class Contender:
    """A method with its settings.

    :param name: as the user wrote it, `salt` or `salt,--dropout-masks=shared`.
    :param label: what to call it in a table.
    :param options: of fairseq-train.
    """

    name: str
    label: str
    options: tuple[str, ...]


def contender(name: str, directory: Path = PRESETS) -> Contender:
    """Return what a name stands for: a preset, then options that change it, after commas.

    :param directory: of the presets.

    Raises RecipeError if there is no such preset, or if what follows is not an option.
    """
    preset, changes = preset_and_changes(name)
    presets = {path.stem: path for path in directory.glob("*.txt")}
    if preset not in presets:
        known = ", ".join(sorted(presets))
        raise RecipeError(f"METHODS: {preset!r} is not a preset; there are {known}")
    for change in changes:
        if not _CHANGE.fullmatch(change):
            raise RecipeError(
                f"METHODS: {name}: {change!r} is not of the form --option=value or --option"
            )
    return Contender(name, label_of(name), (*read_preset(presets[preset]), *changes))


def contenders(
    names: Sequence[str], directory: Path = PRESETS, plain: str = PLAIN
) -> list[Contender]:
    """Return what the names stand for; plain training comes first, asked for or not."""
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise RecipeError(f"METHODS: {', '.join(sorted(twice))} is there twice")
    ordered = (plain, *(name for name in names if name != plain))
    return [contender(name, directory) for name in ordered]


def read_preset(path: Path) -> list[str]:
    """Return the options in a file of `recipes/presets`, as a shell would split them.

    Raises RecipeError if that cannot be done.
    """
    try:
        return shlex.split(path.read_text("utf-8"), comments=True)
    except ValueError as error:  # no UTF-8, or a quotation that does not end
        raise RecipeError(f"{path}: no options of fairseq-train, as text: {error}") from None
