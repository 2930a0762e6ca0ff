"""Translate a binarised split with fairseq-generate, and read the translations back."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sacremoses import MosesDetokenizer

from data_prep.progress import progress
from recipes.errors import RecipeError

_LAST_LINES = 6
MAX_TOKENS = 4000  # per batch, padding included: bounds the memory
# A translation that does not end is ended after so many tokens per token of the source, and more.
MAX_LEN_A, MAX_LEN_B = 2, 50
_SHOWN_IDS = 10


@dataclass(frozen=True)
class Hypothesis:
    """A translation that beam search has found.

    :param text: in subwords.
    :param log_probability: of all its tokens together, in bits.
    :param tokens: how many, with the end of the sentence.
    """

    text: str
    log_probability: float
    tokens: int


def translate(
    data: Path,
    languages: tuple[str, str],
    split: str,
    sentences: int,
    checkpoint: Path,
    beam: int,
    cpu: bool,
) -> list[list[Hypothesis]]:
    """Translate a split; return each sentence's hypotheses, in the order of the sentences.

    :param data: directory with dictionaries and binarised splits.
    :param sentences: how many there are in the split.
    :param beam: hypotheses per sentence.
    :param cpu: stay on the CPU even where there is a GPU.

    Raises RecipeError if fairseq-generate fails, or does not translate each sentence exactly once.
    """
    with tempfile.TemporaryDirectory(prefix="recipes-") as scratch:
        command = [
            *(sys.executable, "-m", "fairseq_cli.generate", str(data)),
            *("--user-dir", str(Path(__file__).parents[1] / "fairseq_adv")),
            *("--task", "adversarial_translation"),
            *("--source-lang", languages[0], "--target-lang", languages[1]),
            *("--gen-subset", split, "--path", str(checkpoint)),
            *("--beam", str(beam), "--nbest", str(beam)),
            # fairseq ends its search without regard to the length penalty, which only ranks the
            # hypotheses that were found: `best` does that, for any penalty.
            "--unnormalized",
            *("--max-len-a", str(MAX_LEN_A), "--max-len-b", str(MAX_LEN_B)),
            *("--max-tokens", str(MAX_TOKENS), "--results-path", scratch),
            *(["--cpu"] if cpu else []),
        ]
        said = Path(scratch, "said")
        output = Path(scratch, f"generate-{split}.txt")
        with said.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            with progress(None, f"translate {split}", "sentence", total=sentences) as bar:
                while process.poll() is None:
                    time.sleep(0.2)
                    done = output.read_bytes().count(b"\nS-") if output.exists() else 0
                    bar.update(done - bar.n)
        finally:
            process.terminate()
            process.wait()
        if process.returncode != 0:
            lines = [line for line in said.read_text("utf-8", "replace").split("\n") if line]
            last = "".join(f"\n  {line[:200]}" for line in lines[-_LAST_LINES:])
            raise RecipeError(f"fairseq-generate failed (exit status {process.returncode}):{last}")
        return parse_hypotheses(output.read_bytes(), sentences)


def parse_hypotheses(output: bytes, sentences: int) -> list[list[Hypothesis]]:
    """Return the hypotheses in fairseq-generate's output, in the order of the sentences.

    Raises RecipeError that names the ids unless each of 0 .. `sentences` - 1 is there exactly once.
    """
    found: dict[int, list[Hypothesis]] = {}
    repeated: list[int] = []
    # Only LF ends a line: text may hold characters that Python, too, would split at.
    for line in output.decode("utf-8").split("\n"):
        kind, _, rest = line.partition("-")
        if kind == "S":  # a sentence begins
            number = int(rest.split("\t", 1)[0])
            if number in found:
                repeated.append(number)
            found[number] = []
        elif kind == "H":
            _number, log_probability, text = rest.split("\t", 2)
        elif kind == "P":  # the probabilities of each token, after the H line
            tokens = rest.split("\t", 1)[1].count(" ") + 1
            found[number].append(Hypothesis(text, float(log_probability), tokens))
    missing = [number for number in range(sentences) if not found.get(number)]
    unknown = [number for number in found if number >= sentences]
    for ids, what in (
        (missing, "not translated"),
        (repeated, "translated more than once"),
        (unknown, "translated, but not in the reference"),
    ):
        if ids:
            raise RecipeError(f"{len(ids)} of {sentences} sentences were {what}: ids {_list(ids)}")
    return [found[number] for number in range(sentences)]


def best(hypotheses: Sequence[Sequence[Hypothesis]], lenpen: float) -> list[str]:
    """Return the best hypothesis of each sentence, in subwords.

    :param lenpen: length penalty, the exponent of the length that log-probabilities are divided
        by: above 1 favours long translations.
    """
    return [
        max(candidates, key=lambda found: found.log_probability / found.tokens**lenpen).text
        for candidates in hypotheses
    ]


def _list(ids: Sequence[int]) -> str:
    more = ", ..." if len(ids) > _SHOWN_IDS else ""
    return ", ".join(map(str, ids[:_SHOWN_IDS])) + more


def undo_bpe(line: str) -> str:
    """Join the pieces of words that subword-nmt marked with @@."""
    return (line + " ").replace("@@ ", "").rstrip(" ")


def undo_pieces(line: str) -> str:
    """Join SentencePiece's pieces to a sentence."""
    return line.replace(" ", "").replace("\u2581", " ").strip()


def detokenize(lines: Iterable[str], lang: str, subword: str = "bpe") -> list[str]:
    """Return the plain text of subwords: ``bpe`` of Moses' tokens, or ``sentencepiece``."""
    if subword == "sentencepiece":
        return [undo_pieces(line) for line in lines]
    moses = MosesDetokenizer(lang)
    return [moses.detokenize(undo_bpe(line).split(" ")) for line in lines]
