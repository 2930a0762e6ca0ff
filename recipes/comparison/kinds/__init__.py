"""What models of a comparison do: how they are trained, judged and scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.comparison.kinds.kind import Kind
from recipes.comparison.kinds.translation import Translation


def kind_of(data: Path, identity: Mapping[str, Any]) -> Kind:
    """Return what `Kind.identity` describes, in a run of before there were kinds: translation."""
    return Translation(data, beam=identity["beam"])
