"""Scores of translations, by sacreBLEU, and whether two systems differ by more than chance.

BLEU counts tokens. sacreBLEU's usual tokeniser, 13a, splits at spaces and European punctuation: a
Chinese or Thai sentence is one token or two to it, and a perfect translation scores 0.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sacrebleu import significance
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest

from data_prep.text.languages import has_spaces, script_of
from recipes.support.errors import RecipeError

_CHINESE = {"Hani", "Hans", "Hant"}
_PACKAGES = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}
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


@dataclass(frozen=True)
class Scorer:
    """sacreBLEU's metrics, with what they need to know of a language.

    :param tokenizer: BLEU's, by sacreBLEU's name.
    :param splits_han: TER takes each Chinese character for a word, and punctuation off words.
    """

    tokenizer: str = BLEU.TOKENIZER_DEFAULT
    splits_han: bool = False

    @classmethod
    def of(cls, lang: str, tokenizer: str | None = None) -> Self:
        """Return the scorer of a language.

        :param tokenizer: None: `zh` for Chinese, `char` (characters) for other languages without
            spaces between words, `13a` for all others. For Japanese and Korean sacreBLEU itself
            would take `ja-mecab` and `ko-mecab`, which need packages of their own.

        Raises RecipeError if such packages, or a model to download, are not there.
        """
        script = script_of(lang)
        if tokenizer is None:
            tokenizer = BLEU.TOKENIZER_DEFAULT if has_spaces(lang) else "char"
            tokenizer = "zh" if script in _CHINESE else tokenizer
        scorer = cls(tokenizer, splits_han=script in _CHINESE | {"Jpan"})
        try:
            scorer._bleu()
        except (RuntimeError, ImportError, OSError) as error:
            what = " ".join(str(error).split())
            if tokenizer in _PACKAGES:
                what = f"pip install '{_PACKAGES[tokenizer]}'"
            raise RecipeError(
                f"--bleu-tokenizer {tokenizer}: not all that it needs is there: {what};\n"
                "or let data_prep, as it made DATA, note another --bleu-tokenizer or none"
            ) from error
        return scorer

    def score(self, hypotheses: list[str], references: list[str]) -> Scores:
        """Score detokenised translations against raw references."""
        bleu = self._bleu().corpus_score(hypotheses, [references])
        return Scores(
            bleu.score,
            CHRF().corpus_score(hypotheses, [references]).score,
            self._ter().corpus_score(hypotheses, [references]).score,
            bleu.sys_len / bleu.ref_len,
        )

    def bleu(self, hypotheses: list[str], references: list[str]) -> float:
        """Return the BLEU of detokenised translations against raw references, 0 to 100."""
        return self._bleu().corpus_score(hypotheses, [references]).score

    def signatures(self, references: list[str], lower_cases: bool) -> dict[str, str]:
        """Return what else a score depends on, as sacreBLEU writes it, by metric.

        :param lower_cases: the references, and translations, are in lower case.
        """
        result = {}
        for name, metric in (
            ("bleu", self._bleu(lower_cases)),
            ("chrf", CHRF(lowercase=lower_cases)),
            ("ter", self._ter()),  # has no regard to case
        ):
            # It learns the number of references.
            metric.corpus_score(references[:1], [references[:1]])
            result[name] = str(metric.get_signature())
        return result

    def paired_bootstrap(
        self, baseline: list[str], system: list[str], references: list[str]
    ) -> dict[str, float]:
        """Return the p-values of sacreBLEU's paired bootstrap test, by metric: `BLEU` and `chrF2`.

        1,000 resamples; Koehn, Statistical Significance Tests for Machine Translation Evaluation,
        2004.
        """
        logging.getLogger("sacrebleu").setLevel(logging.WARNING)  # it tells of each step
        systems: list[tuple[str, Sequence[str]]] = [("baseline", baseline), ("system", system)]
        metrics = {"BLEU": self._bleu(), "chrF2": CHRF()}
        _, scores = PairedTest(systems, metrics, [references], test_type="bs")()
        p_values = {}
        for name in metrics:
            _, result = scores[name]
            assert isinstance(result, significance.Result)
            p_values[name] = float(result.p_value or 0.0)
        return p_values

    def _bleu(self, lower_cases: bool = False) -> BLEU:
        return BLEU(tokenize=self.tokenizer, lowercase=lower_cases)

    def _ter(self) -> TER:
        return TER(normalized=self.splits_han, asian_support=self.splits_han)


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
