"""What Zuo et al. (EMNLP 2021) report: means of three runs."""

from dataclasses import dataclass


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
