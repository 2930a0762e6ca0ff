"""An exported model: what lies in its folder, and what its model.json tells."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.preparation import Preparation
from recipes.models.prepared import SUBWORDS, as_preparation
from recipes.support.errors import RecipeError
from recipes.support.files import read_json, write_json

MODEL = "model.pt"
CTRANSLATE2 = "ctranslate2"
DESCRIPTION = "model.json"


@dataclass(frozen=True)
class Exported:
    """What model.json tells.

    :param languages: of source and target.
    :param preparation: what was done to the corpus, and has to be done to what is translated.
    :param beam: beam size, unless the user asks for another.
    :param lenpen: length penalty (see `recipes.models.generation.best`), likewise.
    :param max_positions: the most tokens of source and target, with the end of the sentence.
    :param method: the criterion of the training.
    :param updates: optimizer updates of the training.
    :param quantization: of the weights for CTranslate2; None: float32.
    :param versions: of the programs that exported it.
    """

    languages: tuple[str, str]
    preparation: Preparation
    beam: int
    lenpen: float
    max_positions: tuple[int, int]
    method: str
    updates: int
    quantization: str | None
    versions: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write model.json."""
        write_json(asdict(self), folder / DESCRIPTION)


def read_exported(folder: Path) -> Exported:
    """Read model.json; raises RecipeError if there is none, or it is not whole."""
    made_by = f"python -m recipes.serving.export DATA --checkpoint FILE --out {folder}"
    values: dict[str, Any] = read_json(folder / DESCRIPTION, made_by)
    try:
        values["preparation"] = as_preparation(values["preparation"])
        values["languages"] = tuple(values["languages"])
        values["max_positions"] = tuple(values["max_positions"])
        return _checked(Exported(**values))
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{folder / DESCRIPTION}: does not describe a model ({error}); {made_by} makes it anew"
        ) from None


def _checked(exported: Exported) -> Exported:
    """Return it; raises ValueError if what translating takes from it is something else."""
    right = {
        "languages": len(exported.languages) == 2
        and all(isinstance(lang, str) for lang in exported.languages),
        "max_positions": len(exported.max_positions) == 2
        and all(isinstance(most, int) and most > 1 for most in exported.max_positions),
        "beam": isinstance(exported.beam, int) and exported.beam > 0,
        "lenpen": isinstance(exported.lenpen, int | float),
        "subword": exported.preparation.subword in tuple(SUBWORDS),
    }
    wrong = [name for name, is_right in right.items() if not is_right]
    if wrong:
        raise ValueError(f"its {' and '.join(wrong)}")
    return exported
