"""What Kitada and Iyatomi (2021) report in their Table 2: labels, and what attention agrees with.

CNN news is not here. The paper tests Multi NLI on what are GLUE's dev sets, and cuts a validation
set of its own from train; here the matched dev set is that, too. The correlation there is of GLUE's
matched test set, whose labels nobody needs for it.
"""

from dataclasses import dataclass

from recipes.paper.reported import LabelColumn, LabelTable, Paper, Part
from recipes.paper.runs import CORRELATION

KITADA = Paper(
    "Kitada and Iyatomi (2021)",
    encoder="the paper's embeddings have 300 channels, GloVe's or fastText's (of bAbI 50, random)",
    numbers="The paper's are of the model that was best on dev, with epsilons from 0 to 30.",
)

RAW_DIFFERENCES = "adv,--perturb=attention,--directions=raw-differences"
METHODS = {
    "plain": "Vanilla",
    "adv": "Word AT",
    "adv,--directions=neighbours": "Word iAT",
    "adv,--perturb=attention,--ascent-steps=0": "Attention RP",
    "adv,--perturb=attention": "Attention AT",
    "adv,--perturb=attention,--directions=differences": "Attention iAT",
    RAW_DIFFERENCES: "Attention, raw differences",
}
"""What the paper calls them; the last one is none of its own: Attention iAT without Eq. 14."""


@dataclass(frozen=True)
class _Task:
    """A task's columns: prediction, and the correlation.

    :param scores: as reported, of Vanilla to Attention iAT; a row for each part.
    :param correlations: the same.
    :param sets: that the scores are of, where it is not the test set.
    """

    title: str
    metric: str
    corpus: str
    parts: tuple[Part, ...]
    scores: tuple[tuple[float, ...], ...]
    correlations: tuple[float, ...]
    sets: str = ""

    @property
    def columns(self) -> tuple[LabelColumn, LabelColumn]:
        """Their headings."""
        heading = f"{self.title} {self.sets}".rstrip()
        correlation = (Part("test", CORRELATION),)
        return (
            LabelColumn(heading, self.metric, self.corpus, self.parts, digits=2),
            LabelColumn(
                f"{self.title} corr.", "", self.corpus, correlation, unit="correlation", digits=3
            ),
        )

    def reported(self, row: int) -> list[tuple[float, ...]]:
        """Return the numbers of the n-th method."""
        return [tuple(of[row] for of in self.scores), (self.correlations[row],)]


_F1, _ACCURACY = (Part("test", "f1"),), (Part("test"),)
_TASKS = (
    _Task(
        *("SST", "F1", "sst", _F1),
        ((79.27, 79.61, 79.57, 81.90, 81.72, 82.20),),
        (0.652, 0.647, 0.643, 0.531, 0.852, 0.876),
    ),
    _Task(
        *("IMDB", "F1", "imdb", _F1),
        ((88.77, 89.65, 89.64, 89.79, 90.00, 90.21),),
        (0.788, 0.838, 0.839, 0.628, 0.819, 0.861),
    ),
    _Task(
        *("20News", "F1", "20news-baseball-hockey", _F1),
        ((95.05, 95.11, 95.14, 96.09, 96.69, 96.58),),
        (0.891, 0.892, 0.893, 0.883, 0.868, 0.897),
    ),
    _Task(
        *("AGNews", "F1", "agnews-world-business", _F1),
        ((95.27, 95.59, 95.62, 96.08, 96.12, 96.19),),
        (0.822, 0.813, 0.809, 0.792, 0.835, 0.891),
    ),
    _Task(
        *("bAbI 1", "Acc", "babi-1", _ACCURACY),
        ((99.90, 100.00, 99.90, 100.00, 100.00, 100.00),),
        (0.714, 0.797, 0.798, 0.592, 0.807, 0.821),
    ),
    _Task(
        *("bAbI 2", "Acc", "babi-2", _ACCURACY),
        ((45.10, 79.50, 79.80, 80.60, 82.30, 85.40),),
        (0.459, 0.657, 0.658, 0.584, 0.632, 0.710),
    ),
    _Task(
        *("bAbI 3", "Acc", "babi-3", _ACCURACY),
        ((52.00, 55.10, 54.90, 55.35, 56.00, 57.10),),
        (0.387, 0.439, 0.437, 0.373, 0.514, 0.589),
    ),
    _Task(
        *("SNLI", "Acc", "snli", _ACCURACY),
        ((78.64, 79.03, 79.12, 79.23, 79.19, 79.32),),
        (0.764, 0.812, 0.815, 0.569, 0.792, 0.818),
    ),
    _Task(
        *("Multi NLI", "Acc", "glue-mnli", (Part("valid"), Part("valid1"))),
        (
            (59.80, 60.58, 60.59, 61.02, 61.20, 61.75),
            (60.71, 60.86, 60.87, 60.91, 61.13, 60.93),
        ),
        (0.541, 0.601, 0.603, 0.547, 0.626, 0.668),
        sets="dev m/mm",
    ),
)

TABLE = LabelTable(
    number="2",
    what="labels, and attention beside the importance of words",
    columns=tuple(column for task in _TASKS for column in task.columns),
    reported={
        method: tuple(numbers for task in _TASKS for numbers in task.reported(row))
        for row, method in enumerate(METHODS)
        if method != RAW_DIFFERENCES
    },
    methods=tuple(METHODS),
    has_average=False,
    paper=KITADA,
    unit="Per cent, on the test set; corr. is Pearson's correlation of attention and gradient-based"
    " importance of words there, with attention held constant (docs/attention.md)",
    names=METHODS,
)
