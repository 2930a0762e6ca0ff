"""What is done to the text of a corpus on its way to the model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a pair of train may be, in tokens, as in Moses' clean-corpus-n.perl."""

    max_tokens: int  # on either side
    max_ratio: float  # of the longer side to the shorter
    max_characters: int = 1000  # of a token


@dataclass(frozen=True)
class Preparation:
    """The defaults are for corpora without a reference; those with a reference follow it.

    :param repairs: bring lines to NFC and take invisible characters out of them. The reference
        scripts do not; then only what Moses' tokeniser takes out is.
    :param escapes: write ``&`` as ``&amp;`` and so on, as Moses does by default: its phrase tables
        needed that.
    :param splits_dashes: ``foo-bar`` becomes ``foo @-@ bar``.
    :param lower_cases: after tokenisation.
    :param limits: pairs of train beyond them are dropped.
    :param valid_every: where valid is cut out of train, take every n-th pair that is kept.
    :param subword: ``bpe``, subword-nmt's, of tokens, or ``sentencepiece``, of sentences.
    :param bpe_merges: merge operations of the joint byte-pair encoding, or SentencePiece's pieces.
    :param dictionary_size: keep so many of the most frequent subwords; None: all.
    :param joined_dictionary: one dictionary for both languages: all embeddings can be shared.
    """

    repairs: bool = True
    escapes: bool = False
    splits_dashes: bool = False
    lower_cases: bool = False
    limits: Limits | None = None
    valid_every: int | None = None
    subword: str = "bpe"
    bpe_merges: int = 10_000
    dictionary_size: int | None = None
    joined_dictionary: bool = True

    @property
    def drops_blank(self) -> bool:
        """Whether a sentence with nothing to see counts as empty.

        It does not to the reference scripts, to which a joiner is a word. SentencePiece makes
        nothing of some.
        """
        return self.repairs or self.subword == "sentencepiece"


OURS = Preparation()
