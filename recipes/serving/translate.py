"""Translate raw text with an exported model: `python -m recipes.serving.translate MODEL`.

One sentence a line in, one a line out, in the same order; an empty line stays empty. A sentence is
prepared as those of the corpus were, and its translation detokenised. Lines are translated as they
come, some at a time, so that a text may be of any length.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.support.parallel import LineFunction, cores
from recipes.models.generation import MAX_TOKENS, Hypothesis, best, detokenize
from recipes.models.model import quiet
from recipes.models.prepared import SUBWORDS, preparer
from recipes.serving.engines import ENGINES, CTranslate2Engine, Engine, FairseqEngine, batches
from recipes.serving.lines import LINES_AT_A_TIME, answer, chunks, warner
from recipes.serving.model_folder import CTRANSLATE2, read_exported
from recipes.support.errors import RecipeError, run_main


@dataclass(frozen=True)
class Translator:
    """Translates raw sentences.

    :param prepare: from sentences to subwords.
    :param max_subwords: of a sentence; what is beyond is left out.
    :param batch_tokens: of a batch, padding included.
    :param warn: is told, in one line, of a sentence that is not translated as it is.
    """

    engine: Engine
    prepare: LineFunction
    target_lang: str
    subword: str
    lenpen: float
    max_subwords: int
    batch_tokens: int
    warn: Callable[[str], None]

    def translate(self, lines: Iterable[bytes], at_a_time: int = LINES_AT_A_TIME) -> Iterator[str]:
        """Yield the translation of each line, or an empty one if there is nothing in it.

        So many lines are read before the first is translated.
        """
        for first, chunk in chunks(lines, at_a_time, self.warn):
            yield from self._translate(chunk, first)

    def _translate(self, lines: list[str], first: int) -> list[str]:
        prepared = [line.split() for line in self.prepare(lines)]
        for number, subwords in enumerate(prepared, start=first):
            if len(subwords) > self.max_subwords:
                self.warn(
                    f"line {number} has {len(subwords)} subwords, the model takes"
                    f" {self.max_subwords}: the rest is not translated"
                )
                del subwords[self.max_subwords :]
        filled = [index for index, subwords in enumerate(prepared) if subwords]
        sentences = [prepared[index] for index in filled]
        found: list[list[Hypothesis]] = [[] for _ in sentences]
        for batch in batches(sentences, self.batch_tokens):
            hypotheses = self.engine.translate([sentences[index] for index in batch])
            for index, candidates in zip(batch, hypotheses, strict=True):
                found[index] = candidates
        translations = detokenize(best(found, self.lenpen), self.target_lang, self.subword)
        result = [""] * len(lines)
        for index, translation in zip(filled, translations, strict=True):
            result[index] = translation
        return result


def load_translator(
    model: Path,
    *,
    engine: str | None = None,
    beam: int | None = None,
    lenpen: float | None = None,
    threads: int | None = None,
    batch_tokens: int = MAX_TOKENS,
    cpu: bool = False,
    warn: Callable[[str], None],
) -> Translator:
    """Load an exported model.

    :param engine: one of `ENGINES`; None: CTranslate2 where the model has a part for it.
    :param beam: None: what the model was exported with, as for `lenpen`.
    :param threads: on the CPU; None: as many as there are cores.
    """
    exported = read_exported(model)
    engine = engine or ENGINES[0 if (model / CTRANSLATE2).exists() else 1]
    beam = beam or exported.beam
    threads = threads or cores()
    loaded: Engine
    if engine == "fairseq":
        loaded = FairseqEngine(model, beam, threads, cpu)
    else:
        loaded = CTranslate2Engine(model, beam, exported.max_positions[1], threads, cpu)
    return Translator(
        engine=loaded,
        prepare=preparer(
            exported.preparation,
            exported.languages[0],
            model / SUBWORDS[exported.preparation.subword],
        ),
        target_lang=exported.languages[1],
        subword=exported.preparation.subword,
        lenpen=exported.lenpen if lenpen is None else lenpen,
        max_subwords=exported.max_positions[0] - 1,
        batch_tokens=batch_tokens,
        warn=warn,
    )


@quiet()
def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.serving.translate",
        description="Translate raw sentences, one a line, from stdin to stdout.",
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="folder made by recipes.serving.export"
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help=f"(default: {ENGINES[0]}, or {ENGINES[1]} for a model that it cannot run)",
    )
    parser.add_argument("--beam", type=int, metavar="N", help="(default: the model's)")
    parser.add_argument(
        "--lenpen",
        type=float,
        metavar="X",
        help="length penalty: above 1 favours long translations (default: the model's)",
    )
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: one per core)"
    )
    parser.add_argument(
        "--batch-tokens",
        type=int,
        default=MAX_TOKENS,
        metavar="N",
        help="subwords per batch, padding included (default: %(default)s)",
    )
    args = parser.parse_args()
    for option in ("beam", "threads", "batch_tokens"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise RecipeError(f"--{option.replace('_', '-')} {value}: allowed is 1, 2, 3, ...")
    translator = load_translator(
        args.model,
        engine=args.engine,
        beam=args.beam,
        lenpen=args.lenpen,
        threads=args.threads,
        batch_tokens=args.batch_tokens,
        cpu=args.cpu,
        warn=warner("recipes.serving.translate"),
    )
    answer(translator.translate, "translate")


if __name__ == "__main__":
    sys.exit(run_main("recipes.serving.translate", _main))
