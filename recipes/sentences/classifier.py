"""An exported classifier: what lies in its folder, what its model.json tells, and how it is used.

The folder is one that fairseq's task ``sentence_prediction`` takes for its data, without any:

- model.pt: the weights in float32 and the model's options, plain containers and tensors;
- input0/dict.txt, label/dict.txt: the pieces, and the classes in their order;
- tokenizer.json: how text is cut into pieces;
- model.json: see `Described`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.encoders.pieces import read_tokenizer, shortened
from data_prep.text.cleaning import clean_line, is_blank
from recipes.models.checkpoint import refusals_as_errors
from recipes.models.generation import MAX_TOKENS
from recipes.models.model import Loaded, outputs
from recipes.sentences.predictions import label_of
from recipes.serving.engines import batches
from recipes.serving.lines import LINES_AT_A_TIME, Warn, chunks
from recipes.support.errors import RecipeError
from recipes.support.files import read_json, write_json

MODEL = "model.pt"
DESCRIPTION = "model.json"
TOKENIZER = "tokenizer.json"
WORDS = Path("input0", "dict.txt")
LABELS = Path("label", "dict.txt")


@dataclass(frozen=True)
class Described:
    """What model.json tells.

    :param classes: in the order of their numbers; None for scores.
    :param scores_divided_by: what a score was divided by, on the way from the text to the model.
    :param texts: how many belong together, 1 or 2.
    :param max_pieces: of an example, special symbols included; what is beyond is left out.
    :param method: the criterion of the training; `options` are its options.
    :param updates: optimizer updates of the training.
    :param versions: of the programs that exported it.
    """

    classes: list[str] | None
    scores_divided_by: float
    texts: int
    max_pieces: int
    corpus: str
    encoder: str
    method: str
    options: dict[str, Any]
    seed: int
    updates: int
    versions: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write model.json."""
        write_json(asdict(self), folder / DESCRIPTION)

    @classmethod
    def read(cls, folder: Path) -> "Described":
        """Read model.json; raises RecipeError if there is none, or it is not whole."""
        made_by = f"python -m recipes.sentences.export DATA --checkpoint FILE --out {folder}"
        values = read_json(folder / DESCRIPTION, made_by)
        try:
            found = cls(**values)
            wrong = found._wrong()
        except TypeError as error:
            wrong = str(error)
        if wrong:
            raise RecipeError(
                f"{folder / DESCRIPTION}: does not describe a classifier ({wrong}); {made_by} makes"
                " it anew"
            )
        return found

    def _wrong(self) -> str:
        """What using it takes from it, and is something else."""
        names = self.classes
        right = {
            "classes": names is None
            or (isinstance(names, list) and all(isinstance(name, str) for name in names)),
            "scores_divided_by": isinstance(self.scores_divided_by, int | float),
            "texts": self.texts in (1, 2),
            "max_pieces": isinstance(self.max_pieces, int) and self.max_pieces > 8,
        }
        return " and ".join(name for name, is_right in right.items() if not is_right)


@dataclass(frozen=True)
class Classifier:
    """Predicts the labels of raw text.

    :param warn: is told, in one line, of a line that is not taken as it is.
    """

    described: Described
    loaded: Loaded
    tokenizer: Any
    warn: Warn

    def classify(self, lines: Iterable[bytes], at_a_time: int = LINES_AT_A_TIME) -> Iterator[str]:
        """Yield ``label<TAB>probability`` of each line, or its score; nothing where it has none.

        So many lines are read before the first is answered.
        """
        for first, chunk in chunks(lines, at_a_time, self.warn):
            yield from self._answers(chunk, first)

    def _answers(self, lines: list[str], first: int) -> list[str]:
        inputs: dict[int, list[int]] = {}
        for index, line in enumerate(lines):
            texts = line.removesuffix("\r").split("\t")
            if all(map(is_blank, texts)):
                continue
            if len(texts) != self.described.texts:
                self.warn(
                    f"line {first + index} has {len(texts)} columns, the model reads"
                    f" {self.described.texts}: it is not answered"
                )
                continue
            inputs[index] = self.pieces(texts, first + index)
        result = [""] * len(lines)
        for index, made in zip(inputs, self.outputs(list(inputs.values())), strict=True):
            said = label_of(self.described.classes, self.described.scores_divided_by, made)
            result[index] = "\t".join(said if self.described.classes else said[:1])
        return result

    def pieces(self, texts: Sequence[str], number: int | None = None) -> list[int]:
        """Return the numbers of the pieces of one or two texts, special symbols among them.

        :param number: of their line, to warn if they are too long.
        """
        cut = [
            self.tokenizer.encode(clean_line(text, {}), add_special_tokens=False).ids
            for text in texts
        ]
        task = self.loaded.task
        begin, between = ([n] if n is not None else [] for n in self._marks())
        end = [task.source_dictionary.eos()]
        specials = len(begin) + len(end) + (len(between) + len(end) if len(cut) > 1 else 0)
        most = self.described.max_pieces - specials
        length = sum(map(len, cut))
        if length > most and number is not None:
            self.warn(
                f"line {number} has {length} pieces, the model takes {most}: the rest is left out"
            )
        one, other = shortened(cut[0], cut[1] if len(cut) > 1 else None, most)
        return [*begin, *one, *end, *([] if other is None else [*between, *other, *end])]

    def _marks(self) -> tuple[int | None, int | None]:
        return self.loaded.task.cfg.init_token, self.loaded.task.cfg.separator_token

    def outputs(self, inputs: Sequence[Sequence[int]]) -> list[Any]:
        """Return what the model says of each input, K logits or scores, batch by batch."""
        import torch
        from fairseq.data import data_utils
        from fairseq.utils import move_to_cuda

        padding = self.loaded.task.source_dictionary.pad()
        found: list[Any] = [None] * len(inputs)
        for batch in batches(inputs, MAX_TOKENS):
            rows = [torch.tensor(inputs[index]) for index in batch]
            tokens = data_utils.collate_tokens(rows, padding)
            lengths = torch.tensor([len(row) for row in rows])
            sample = {"src_tokens": tokens, "src_lengths": lengths}
            sample = move_to_cuda(sample) if self.loaded.cuda else sample
            for index, made in zip(batch, outputs(self.loaded, sample).cpu().numpy(), strict=True):
                found[index] = made
        return found


def load_classifier(
    folder: Path, *, threads: int | None = None, cpu: bool = False, warn: Callable[[str], None]
) -> Classifier:
    """Load an exported classifier. Raises RecipeError if it is none, or not whole.

    :param threads: on the CPU; None: as many as torch takes.
    """
    described = Described.read(folder)
    for name in (MODEL, TOKENIZER, WORDS):
        if not (folder / name).is_file():
            raise RecipeError(f"{folder / name}: not there; export the checkpoint anew")
    # Imported late, since it is slow.
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return Classifier(described, load_folder(folder, cpu), read_tokenizer(folder), warn)


def load_folder(folder: Path, cpu: bool) -> Loaded:
    """Load the model of a folder, without a look at anything else."""
    import torch
    from fairseq import checkpoint_utils

    import fairseq_adv.tasks  # noqa: F401  (registers our models, mends the loading of checkpoints)

    with refusals_as_errors():
        (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(folder / MODEL)], arg_overrides={"data": str(folder)}
        )
    cuda = torch.cuda.is_available() and not cpu
    model = model.float().eval()
    return Loaded(model.cuda() if cuda else model, task, cuda)
