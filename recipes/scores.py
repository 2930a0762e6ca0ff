"""Scores of translations, by sacreBLEU, and whether two systems differ by more than chance."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu import significance
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest

_COMPOUND = re.compile(r"(\S)-(\S)")


@dataclass(frozen=True)
class Scores:
    """How good the translations of a split are.

    :param bleu: 0 to 100.
    :param chrf: 0 to 100.
    :param ter: edits per 100 tokens of the references: the fewer the better.
    :param length_ratio: tokens of the translations per token of the references, as BLEU counts
        them.
    """

    bleu: float
    chrf: float
    ter: float
    length_ratio: float


def score(hypotheses: list[str], references: list[str]) -> Scores:
    """Score detokenised translations against raw references."""
    bleu = BLEU().corpus_score(hypotheses, [references])
    return Scores(
        bleu.score,
        CHRF().corpus_score(hypotheses, [references]).score,
        TER().corpus_score(hypotheses, [references]).score,
        bleu.sys_len / bleu.ref_len,
    )


def bleu_score(hypotheses: list[str], references: list[str]) -> float:
    """Return the BLEU of detokenised translations against raw references, 0 to 100."""
    return BLEU().corpus_score(hypotheses, [references]).score


def tokenized_bleu(
    hypotheses: list[str], references: list[str], *, split_compounds: bool = False
) -> float:
    """Return the BLEU of tokens as they are, 0 to 100: that of Moses' multi-bleu.perl.

    Papers on IWSLT report it. It depends on the tokeniser: compare it with the same one's only.

    :param split_compounds: count the parts of hyphenated words, and the hyphens, as tokens of their
        own, as Vaswani et al. (2017) and after them Ott et al. (2018) did for English to German.
        That adds to the score.
    """
    if split_compounds:
        hypotheses, references = (
            [_COMPOUND.sub(r"\1 ##AT##-##AT## \2", line) for line in lines]
            for lines in (hypotheses, references)
        )
    metric = BLEU(tokenize="none", smooth_method="none", force=True)  # force: no warning
    return metric.corpus_score(hypotheses, [references]).score


def signatures(references: list[str], lower_cases: bool) -> dict[str, str]:
    """Return what else a score depends on, as sacreBLEU writes it, by metric.

    :param lower_cases: the references, and translations, are in lower case.
    """
    result = {}
    for name, metric in (
        ("bleu", BLEU(lowercase=lower_cases)),
        ("chrf", CHRF(lowercase=lower_cases)),
        ("ter", TER()),  # has no regard to case
    ):
        metric.corpus_score(references[:1], [references[:1]])  # it learns the number of references
        result[name] = str(metric.get_signature())
    return result


def paired_bootstrap(
    baseline: list[str], system: list[str], references: list[str]
) -> dict[str, float]:
    """Return the p-values of sacreBLEU's paired bootstrap test, by metric: `BLEU` and `chrF2`.

    1,000 resamples; Koehn, Statistical Significance Tests for Machine Translation Evaluation, 2004.
    """
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)  # it tells of each step
    systems: list[tuple[str, Sequence[str]]] = [("baseline", baseline), ("system", system)]
    metrics = {"BLEU": BLEU(), "chrF2": CHRF()}
    _, scores = PairedTest(systems, metrics, [references], test_type="bs")()
    p_values = {}
    for name in metrics:
        _, result = scores[name]
        assert isinstance(result, significance.Result)
        p_values[name] = float(result.p_value or 0.0)
    return p_values
