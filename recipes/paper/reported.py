"""What Zuo et al. (EMNLP 2021) report: of BLEU, means of three runs; of labels, best ones.

What other papers report is in the rooms of their own, `attention` and `mixed`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from recipes.support.methods import label_of


def preset_reported(method: str) -> str:
    """Return the preset whose numbers the paper has: they are for any settings that we play."""
    return method.split(",")[0].removesuffix("-paper")


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, by recipe and method.

    :param number: in the paper.
    :param score: which of ours it is to be compared with, a field of `scores.json`: papers on IWSLT
        report tokenised BLEU, and Table 3 says sacreBLEU.
    :param bleu: as printed.
    """

    number: int
    score: str
    bleu: dict[str, dict[str, float]]

    @property
    def recipes(self) -> list[str]:
        """The recipes of its corpora."""
        return list(self.bleu)

    @property
    def methods(self) -> list[str]:
        """All methods in it, plain training first."""
        return list(next(iter(self.bleu.values())))


_LOW_RESOURCE = ("transformer", "adv", "freeat", "freelb", "smart", "salt")

TABLES = {
    "table2": PaperTable(
        number=2,
        score="tokenized_bleu",
        bleu={
            recipe: dict(zip(_LOW_RESOURCE, bleu, strict=True))
            for recipe, bleu in (
                ("iwslt15-en-vi", (30.3, 31.0, 31.0, 31.6, 31.5, 32.8)),
                ("iwslt14-de-en", (34.7, 34.8, 35.2, 35.3, 35.5, 36.8)),
                ("iwslt16-fr-en", (38.2, 38.8, 38.6, 38.7, 38.9, 39.7)),
            )
        },
    ),
    "table3": PaperTable(
        number=3,
        score="sacrebleu",
        bleu={
            "wmt16-en-de": {
                "transformer": 28.4,
                "freeat": 29.0,
                "freelb": 29.0,
                "smart": 29.1,
                "salt": 29.6,
            }
        },
    ),
}


Numbers = tuple[float | None, ...]
"""Of a cell, as printed."""


@dataclass(frozen=True)
class Part:
    """One number in a cell: a metric of `recipes.sentences.metrics` on a split."""

    split: str
    metric: str = "accuracy"


@dataclass(frozen=True)
class LabelColumn:
    """A column of a table of labels.

    :param metric: what its numbers are, for people; empty if the title says it.
    :param task: the corpus, by its name in data_prep.
    :param parts: its numbers.
    :param is_pooled: whether there is but one number, over the sentences of all parts.
    :param digits: that the paper prints behind the point.
    """

    title: str
    metric: str
    task: str
    parts: tuple[Part, ...]
    is_pooled: bool = False
    unit: str = "per cent"
    digits: int = 1

    @property
    def heading(self) -> str:
        """Title and metric."""
        return f"{self.title} {self.metric}".rstrip()


@dataclass(frozen=True)
class Paper:
    """A paper with tables of labels.

    :param cited: its authors and year.
    :param encoder: what it has in the place of our encoder.
    :param numbers: what its numbers are.
    """

    cited: str
    encoder: str
    numbers: str


ZUO = Paper(
    "Zuo et al. (2021)",
    encoder="the paper's is BERT-base",
    numbers="The paper's are the best that it found for each set, with BERT-base.",
)


@dataclass(frozen=True)
class LabelTable:
    """A table of a paper, of labels of sentences.

    :param number: in the paper, or several.
    :param what: it is of.
    :param unit: of its numbers.
    :param reported: the numbers of each column, by our presets; by methods as they are played if
        these have names. None where the paper leaves out one of several, () where it has none.
    :param methods: to be compared, plain training first.
    :param has_average: of all columns, of the numbers of each the mean.
    :param names: what the paper calls methods, where that is not how we call them.
    """

    number: str
    what: str
    columns: tuple[LabelColumn, ...]
    reported: Mapping[str, tuple[Numbers, ...]]
    methods: tuple[str, ...]
    has_average: bool
    paper: Paper = ZUO
    unit: str = "Per cent"
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """The corpora."""
        return list(dict.fromkeys(column.task for column in self.columns))

    def label(self, method: str) -> str:
        """Return what to call a method in it."""
        return self.names.get(method) or label_of(method)

    def numbers_of(self, method: str) -> Mapping[LabelColumn, Numbers]:
        """Return what the paper reports of a method, by column; nothing if it does not."""
        numbers = self.reported.get(method if self.names else preset_reported(method), ())
        pairs = zip(self.columns, numbers, strict=bool(numbers))
        return {column: of_column for column, of_column in pairs if of_column}


_DEV = (Part("valid"),)
_DEV_ACC_F1 = (Part("valid"), Part("valid", "f1"))
_ROUNDS = ("R1", "R2", "R3")


def rounds_of_anli(split: str, name: str) -> list[LabelColumn]:
    """Return the columns of the three rounds' sets, dev or test."""
    parts = (Part(f"{split}{number or ''}") for number in range(len(_ROUNDS)))
    return [
        LabelColumn(f"{name} {r}", "Acc", "anli", (part,))
        for r, part in zip(_ROUNDS, parts, strict=True)
    ]


def _of_anli(split: str, name: str) -> list[LabelColumn]:
    rounds = rounds_of_anli(split, name)
    parts = tuple(part for column in rounds for part in column.parts)
    return [*rounds, LabelColumn(f"{name} all", "Acc", "anli", parts, is_pooled=True)]


LABELS = {
    "table4": LabelTable(
        number="4",
        what="GLUE, dev sets",
        columns=(
            LabelColumn("RTE", "Acc", "glue-rte", _DEV),
            LabelColumn("MRPC", "Acc/F1", "glue-mrpc", _DEV_ACC_F1),
            LabelColumn("CoLA", "MCC", "glue-cola", (Part("valid", "mcc"),)),
            LabelColumn("SST-2", "Acc", "glue-sst-2", _DEV),
            LabelColumn(
                "STS-B", "P/S", "glue-sts-b", (Part("valid", "pearson"), Part("valid", "spearman"))
            ),
            LabelColumn("QNLI", "Acc", "glue-qnli", _DEV),
            LabelColumn("QQP", "Acc/F1", "glue-qqp", _DEV_ACC_F1),
            LabelColumn("MNLI-m/mm", "Acc", "glue-mnli", (Part("valid"), Part("valid1"))),
        ),
        reported={
            "plain": (
                (63.5,),
                (84.1, 89.0),
                (54.7,),
                (92.9,),
                (89.2, 88.8),
                (91.1,),
                (90.9, 88.3),
                (84.5, 84.4),
            ),
            "freeat": (
                (68.0,),
                (85.0, 89.2),
                (57.5,),
                (93.2,),
                (89.5, 89.0),
                (91.3,),
                (91.2, 88.5),
                (84.9, 85.0),
            ),
            "freelb": (
                (70.0,),
                (86.0, 90.0),
                (58.9,),
                (93.4,),
                (89.7, 89.2),
                (91.5,),
                (91.4, 88.4),
                (85.4, 85.5),
            ),
            "smart": (
                (71.2,),
                (87.7, 91.3),
                (59.1,),
                (93.0,),
                (90.0, 89.4),
                (91.7,),
                (91.5, 88.5),
                (85.6, 86.0),
            ),
            "salt": (
                (72.9,),
                (88.4, 91.8),
                (61.0,),
                (93.6,),
                (90.4, 90.0),
                (92.0,),
                (91.7, 88.6),
                (86.1, 85.8),
            ),
        },
        methods=("plain", "freeat", "freelb", "smart", "salt", "rdrop"),
        has_average=True,
    ),
    "table6": LabelTable(
        number="6",
        what="Adversarial NLI, dev and test sets of its three rounds",
        columns=(*_of_anli("valid", "dev"), *_of_anli("test", "test")),
        reported={
            method: tuple((value,) for value in values)
            for method, values in (
                ("plain", (53.3, 43.0, 44.7, 46.8, 54.1, 44.9, 46.6, 48.4)),
                ("smart", (54.1, 44.4, 45.3, 47.8, 54.3, 46.4, 46.5, 48.9)),
                ("salt", (56.6, 46.2, 45.9, 49.3, 55.4, 47.7, 46.7, 49.7)),
            )
        },
        methods=("plain", "freeat", "freelb", "smart", "salt", "rdrop"),
        has_average=False,
    ),
}
