"""An encoder that data_prep has made, found again and checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from data_prep.encoders.hugging_face import read_json
from data_prep.stages import sha256_of
from data_prep.support.errors import DataPrepError

FACTS = "encoder.json"
FILES = ("model.pt", "dict.txt", "tokenizer.json", "options.txt")


@dataclass(frozen=True)
class PreparedEncoder:
    """A directory with an encoder of data_prep, with what its encoder.json says."""

    path: Path
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the directory: it becomes part of those of data."""
        return self.path.resolve().name

    @property
    def max_positions(self) -> int:
        """The longest sequence that it takes, special symbols included."""
        return int(self.facts["max_positions"])

    def specials(self, texts: int) -> int:
        """How many special symbols stand around one text, or around and between two."""
        between = texts == 2 and self.facts["separator"]
        return texts + self.facts.get("begin", True) + between

    @property
    def digests(self) -> dict[str, str]:
        """The sha256 of each file."""
        return dict(self.facts["files"])

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a directory. Raises DataPrepError if it is none of an encoder, or damaged.

        Weights are large, and none of data's business: they have to be there.
        """
        if not (path / FACTS).is_file():
            raise DataPrepError(
                f"{path}: no encoder of data_prep, for it has no {FACTS};"
                " make one: python -m data_prep encoder NAME"
            )
        facts = read_json(path / FACTS)
        files = facts.get("files")
        if (
            not isinstance(files, dict)
            or not {*FILES} <= files.keys()
            or type(facts.get("max_positions")) is not int
            or type(facts.get("separator")) is not bool
        ):
            raise DataPrepError(f"{path / FACTS}: is not what data_prep writes; make it anew")
        for name in FILES:
            file = path / name
            if not file.is_file() or (name != "model.pt" and sha256_of(file) != files[name]):
                raise DataPrepError(
                    f"{file}: is missing, or not what data_prep has written; make the encoder anew"
                )
        return cls(path, facts)
