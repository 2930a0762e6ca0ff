"""What models of a comparison do: how they are trained, judged and scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.comparison.kinds.kind import Kind
from recipes.comparison.kinds.sentences import Sentences
from recipes.comparison.kinds.translation import Translation


def kind_from(data: Path, identity: Mapping[str, Any]) -> Kind:
    """Return the kind that `Kind.identity` describes; runs of before there were kinds translate."""
    if identity.get("kind") == Sentences.name:
        return Sentences(data, Path(identity["encoder"]))
    return Translation(data, identity["beam"])
