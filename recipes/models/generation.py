"""Translate a binarised split by fairseq-generate, in several processes, and read it back."""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacremoses import MosesDetokenizer

from data_prep.support.parallel import cores
from data_prep.support.progress import progress
from data_prep.text.languages import follows_moses, language_of
from recipes.support.errors import RecipeError
from recipes.support.gpus import visible_gpus

_LAST_LINES = 6
MAX_TOKENS = 4000  # per batch, padding included: bounds the memory
# A translation that does not end is ended after so many tokens per token of the source, and more.
MAX_LEN_A, MAX_LEN_B = 2, 50
_SHOWN_IDS = 10
_WORTH_A_WORKER = 200  # sentences; a process takes seconds to start


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
    sources: Sequence[str],
    checkpoint: Path,
    beam: int,
    cpu: bool,
    workers: int | None = None,
) -> list[list[Hypothesis]]:
    """Translate a split; return each sentence's hypotheses, in the order of the sentences.

    :param data: directory with dictionaries and binarised splits.
    :param sources: the split's source sentences in subwords.
    :param beam: hypotheses per sentence.
    :param cpu: stay on the CPU even where there is a GPU.
    :param workers: processes that share the work; None is one per GPU or, without, one per core.

    Raises RecipeError if fairseq-generate fails, or does not translate each sentence exactly once.
    """
    gpus = [] if cpu else visible_gpus()
    workers = min(workers or len(gpus) or cores(), max(1, len(sources) // _WORTH_A_WORKER))
    with tempfile.TemporaryDirectory(prefix="recipes-") as scratch:
        command = [
            *(sys.executable, "-m", "fairseq_cli.generate", str(data)),
            *("--user-dir", str(Path(__file__).parents[2] / "fairseq_adv")),
            *("--task", "adversarial_translation"),
            *("--source-lang", languages[0], "--target-lang", languages[1]),
            *("--gen-subset", split, "--path", str(checkpoint)),
            *("--beam", str(beam), "--nbest", str(beam)),
            # fairseq ends its search without regard to the length penalty, which only ranks the
            # hypotheses that were found: `best` does that, for any penalty.
            "--unnormalized",
            *("--max-len-a", str(MAX_LEN_A), "--max-len-b", str(MAX_LEN_B)),
            *("--max-tokens", str(MAX_TOKENS), "--distributed-world-size", str(workers)),
            *(["--cpu"] if cpu else []),
        ]
        shards = [
            _Shard(Path(scratch, str(number)), split, command, number, workers, gpus)
            for number in range(workers)
        ]
        try:
            with progress(None, f"translate {split}", "sentence", total=len(sources)) as bar:
                while any(shard.is_at_work() for shard in shards):
                    time.sleep(0.2)
                    bar.update(sum(shard.translated() for shard in shards) - bar.n)
                    if any(shard.has_failed() for shard in shards):
                        break
        finally:
            for shard in shards:
                shard.end()
        return parse_hypotheses(b"".join(shard.output() for shard in shards), sources)


class _Shard:
    """A process of fairseq-generate that translates some of the batches."""

    def __init__(
        self,
        scratch: Path,
        split: str,
        command: Sequence[str],
        number: int,
        workers: int,
        gpus: Sequence[str],
    ) -> None:
        scratch.mkdir()
        self._said = scratch / "said"
        self._output = scratch / f"generate-{split}.txt"
        own = ["--distributed-rank", str(number), "--results-path", str(scratch)]
        environment = {"OMP_NUM_THREADS": str(max(1, cores() // workers))} | os.environ
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        with self._said.open("wb") as stream:
            self._process = subprocess.Popen(
                [*command, *own], stdout=stream, stderr=subprocess.STDOUT, env=environment
            )

    def is_at_work(self) -> bool:
        return self._process.poll() is None

    def has_failed(self) -> bool:
        return bool(self._process.poll())

    def translated(self) -> int:
        return self._output.read_bytes().count(b"\nS-") if self._output.exists() else 0

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()

    def output(self) -> bytes:
        # Those that were ended because another one failed have no last words.
        if self._process.returncode > 0:
            lines = [line for line in self._said.read_text("utf-8", "replace").split("\n") if line]
            for number, line in enumerate(lines):
                if line.startswith("fairseq_adv: "):  # the last thing said, and all that matters
                    raise RecipeError("\n".join(lines[number:]).removeprefix("fairseq_adv: "))
            last = "".join(f"\n  {line[:200]}" for line in lines[-_LAST_LINES:])
            status = self._process.returncode
            raise RecipeError(f"fairseq-generate failed (exit status {status}):{last}")
        return self._output.read_bytes() if self._output.exists() else b""


def parse_hypotheses(output: bytes, sources: Sequence[str]) -> list[list[Hypothesis]]:
    """Return the hypotheses in fairseq-generate's output, in the order of the sentences.

    :param sources: what should have been translated, in subwords.

    Raises RecipeError that names the ids unless each sentence is there exactly once, and is the one
    with that number in ``sources``.
    """
    found: dict[int, list[Hypothesis]] = {}
    repeated: list[int] = []
    others: list[int] = []
    # Only LF ends a line: text may hold characters that Python, too, would split at.
    for line in output.decode("utf-8").split("\n"):
        kind, _, rest = line.partition("-")
        if kind == "S":  # a sentence begins
            name, _, text = rest.partition("\t")
            number = int(name)
            if number in found:
                repeated.append(number)
            found[number] = []
            if number < len(sources) and not _same(sources[number], text):
                others.append(number)
        elif kind == "H":
            _number, log_probability, text = rest.split("\t", 2)
        elif kind == "P":  # the probabilities of each token, after the H line
            tokens = rest.split("\t", 1)[1].count(" ") + 1
            found[number].append(Hypothesis(text, float(log_probability), tokens))
    missing = [number for number in range(len(sources)) if not found.get(number)]
    unknown = [number for number in found if number >= len(sources)]
    for ids, what in (
        (missing, "not translated"),
        (repeated, "translated more than once"),
        (unknown, "translated, but not in the reference"),
        (others, "other ones in the binary data than in the text: prepare the data anew"),
    ):
        if ids:
            raise RecipeError(
                f"{len(ids)} of {len(sources)} sentences were {what}: ids {_list(ids)}"
            )
    return [found[number] for number in range(len(sources))]


def _same(text: str, binary: str) -> bool:
    """Return whether a sentence is what fairseq's binary data give back of it."""
    # fairseq prints neither ends of sentences nor, in place of unknown words, the words.
    ours, theirs = (
        [word for word in line.split() if word not in ("<s>", "</s>", "<pad>")]
        for line in (text, binary)
    )
    return len(ours) == len(theirs) and all(
        word in (known, "<unk>") for known, word in zip(ours, theirs, strict=True)
    )


def hypothesis_of(found: Mapping[str, Any], dictionary: Any) -> Hypothesis:
    """Return what fairseq's search, unnormalized, has found.

    :param found: a hypothesis of `SequenceGenerator`.
    :param dictionary: fairseq's, of the target.
    """
    ends = {dictionary.eos()}
    return Hypothesis(
        text=dictionary.string(found["tokens"].cpu(), extra_symbols_to_ignore=ends),
        log_probability=float(found["score"] / math.log(2)),  # as fairseq-generate prints it
        tokens=len(found["tokens"]),
    )


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
    """Join the pieces of words that subword-nmt marked with @@, and so marked tokens."""
    return (line + " ").replace("@@ ", "").rstrip(" ")


def undo_pieces(line: str) -> str:
    """Join SentencePiece's pieces to a sentence."""
    return line.replace(" ", "").replace("\u2581", " ").strip()


def detokenize(lines: Iterable[str], lang: str, subword: str = "bpe") -> list[str]:
    """Return the plain text of subwords: ``bpe`` of tokens in ``lang``, or ``sentencepiece``.

    Exactly, but where the tokens are Moses' (see `data_prep.text.tokenization`).
    """
    if subword == "sentencepiece":
        return [undo_pieces(line) for line in lines]
    if not follows_moses(lang):
        return [undo_bpe(line) for line in lines]
    moses = MosesDetokenizer(language_of(lang))
    return [moses.detokenize(undo_bpe(line).split(" ")) for line in lines]
