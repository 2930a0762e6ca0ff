"""How much worse does a model translate noisy sentences? `python -m recipes.evaluation.robustness`.

Three kinds of noise on the source of a split: typos, dropped words, and word embeddings perturbed
in a random direction. The reference stays; BLEU and chrF are compared with those of clean source.
All models meet the same noise (see `noise` and `perturbed_generation`, beside this).
"""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from data_prep.binarize import binarize
from data_prep.stages import say
from data_prep.support.lines import open_for_writing, read_lines
from recipes.evaluation.noise import NOISES, noisy
from recipes.evaluation.perturbed_generation import KIND, perturbed_translations
from recipes.evaluation.robustness_report import (
    CLEAN,
    Measured,
    plot_robustness,
    robustness_table,
)
from recipes.models.checkpoint import direction
from recipes.models.generation import Hypothesis, best, translate
from recipes.models.model import load, models_parser, named, quiet
from recipes.models.prepared import Prepared, preparer
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import write_json

ROBUSTNESS = "robustness.json"
PICTURE = "robustness.png"
RATES = (0.05, 0.1, 0.2)
RADII = (1.0, 2.0, 4.0, 8.0)


def prepare(prepared: Prepared, sentences: Sequence[str]) -> list[str]:
    """Return raw source sentences in subwords, as in the making of the corpus."""
    function = preparer(prepared.preparation, prepared.languages[0], prepared.subwords_file)
    return function(list(sentences))


@contextmanager
def binarised(prepared: Prepared, split: str, source: Sequence[str]) -> Iterator[Path]:
    """Yield a directory for fairseq-generate: a split of the corpus with another source side.

    :param source: its subwords, a line for each sentence.
    """
    data, (source_lang, target_lang) = prepared.data, prepared.languages
    with TemporaryDirectory(prefix="recipes-") as scratch:
        texts, directory = Path(scratch, "bpe"), Path(scratch, "bin")
        texts.mkdir()
        with open_for_writing(texts / f"{split}.{source_lang}") as stream:
            stream.writelines(line + "\n" for line in source)
        shutil.copyfile(data / "bpe" / f"{split}.{target_lang}", texts / f"{split}.{target_lang}")
        binarize(
            texts,
            (source_lang, target_lang),
            directory,
            Path(scratch, "log"),
            workers=1,
            splits=(split,),
            dictionary=data / "bin" / f"dict.{source_lang}.txt",
            target_dictionary=data / "bin" / f"dict.{target_lang}.txt",
            joined=False,  # where they are joined, the two are the same
        )
        yield directory


def noisy_subwords(prepared: Prepared, split: str, kind: str, rate: float, seed: int) -> list[str]:
    """Return the subwords of a split's source with noise in its raw sentences.

    A sentence that the noise leaves alone has the subwords that it has in the corpus.
    """
    raw, subwords = source_of(prepared, split)
    changed = {
        number: sentence
        for number, sentence in enumerate(noisy(raw, kind, rate, seed))
        if sentence != raw[number]
    }
    encoded = prepare(prepared, list(changed.values()))
    for number, line in zip(changed, encoded, strict=True):
        subwords[number] = line
    return subwords


def prepared_otherwise(prepared: Prepared, split: str) -> int:
    """Return how many clean source sentences of a split `prepare` prepares otherwise.

    None, but where a corpus comes with tokens of its own, made by another tokeniser.
    """
    raw, subwords = source_of(prepared, split)
    ours = prepare(prepared, raw)
    return sum(one != other for one, other in zip(ours, subwords, strict=True))


def source_of(prepared: Prepared, split: str) -> tuple[list[str], list[str]]:
    """Return the raw source sentences of a split, and their subwords."""
    file = f"{split}.{prepared.languages[0]}"
    raw, subwords = list(read_lines(prepared.data / "raw" / file)), prepared.subwords(split)
    if len(raw) != len(subwords):
        raise RecipeError(
            f"{prepared.data}: {file} has {len(raw)} lines in raw, {len(subwords)} in bpe"
        )
    return raw, subwords


def robustness(
    data: Path,
    checkpoints: Mapping[str, Path],
    out: Path,
    *,
    split: str = "test",
    seed: int = 1,
    rates: Sequence[float] = RATES,
    radii: Sequence[float] = RADII,
    beam: int = 5,
    lenpen: float = 1.0,
    cpu: bool = False,
) -> list[Measured]:
    """Translate and score; write robustness.json and robustness.png to `out`.

    :param data: a directory made by data_prep.
    :param checkpoints: by what to call them.
    :param rates: of typos and of dropped words, 0 to 1.
    :param radii: l2 norms of a sentence's perturbation, in embedding units.
    """
    prepared = Prepared.of(data, direction(data, list(checkpoints.values())))
    scorer = prepared.scorer
    _, reference = prepared.pairs(split)
    otherwise = prepared_otherwise(prepared, split)
    if otherwise:
        say(
            f"{otherwise} of {len(reference)} sentences of {split} have other tokens in {data} than"
            " data_prep gives them: a part of the differences may be due to that"
        )
    clean: dict[str, Measured] = {}
    noised: list[Measured] = []

    def measured(
        label: str, noise: str, strength: float, found: list[list[Hypothesis]]
    ) -> Measured:
        scores = scorer.score(prepared.plain(best(found, lenpen)), reference)
        before = clean.get(label, scores)
        return Measured(
            label,
            noise,
            strength,
            scores.bleu,
            scores.chrf,
            scores.bleu - before.bleu,
            scores.chrf - before.chrf,
        )

    def translated(
        directory: Path, source: Sequence[str], checkpoint: Path
    ) -> list[list[Hypothesis]]:
        return translate(directory, prepared.languages, split, source, checkpoint, beam, cpu)

    clean_source = prepared.subwords(split)
    for label, checkpoint in checkpoints.items():
        found = translated(data / "bin", clean_source, checkpoint)
        clean[label] = measured(label, CLEAN, 0.0, found)
    for kind in NOISES:
        for rate in rates:
            subwords = noisy_subwords(prepared, split, kind, rate, seed)
            with binarised(prepared, split, subwords) as directory:
                for label, checkpoint in checkpoints.items():
                    found = translated(directory, subwords, checkpoint)
                    noised.append(measured(label, kind, rate, found))
    norms = {}
    for label, checkpoint in checkpoints.items():
        loaded = load(data, checkpoint, cpu)
        for radius in radii:
            what = f"translate {split}, radius {radius:g}"
            found, norms[label] = perturbed_translations(loaded, split, radius, seed, beam, what)
            noised.append(measured(label, KIND, radius, found))
    result = [*clean.values(), *noised]
    plot_robustness(result, f"BLEU on {split} with noise in the source", out / PICTURE)
    write_json(
        {
            "split": split,
            "sentences": len(reference),
            "prepared_otherwise": otherwise,
            "seed": seed,
            "beam": beam,
            "lenpen": lenpen,
            "models": [
                {
                    "label": label,
                    "checkpoint": str(checkpoint),
                    "mean_embedding_norm": norms.get(label),
                }
                for label, checkpoint in checkpoints.items()
            ],
            "measured": [asdict(one) for one in result],
            "signatures": scorer.signatures(reference, prepared.preparation.lower_cases),
        },
        out / ROBUSTNESS,
    )
    return result


@quiet()
def _main() -> None:
    parser = models_parser(
        "recipes.evaluation.robustness",
        "Translate a split with noise in its source, and compare with clean source.",
        f"{ROBUSTNESS} and {PICTURE}",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of the noise (default: %(default)s)"
    )
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=RATES,
        metavar="X",
        help="of words with a typo, and of words dropped (default: 0.05 0.1 0.2)",
    )
    parser.add_argument(
        "--radii",
        type=float,
        nargs="+",
        default=RADII,
        metavar="X",
        help="l2 norm of the perturbation of a sentence's embeddings (default: 1 2 4 8)",
    )
    parser.add_argument(
        "--beam", type=int, default=5, metavar="N", help="beam size (default: %(default)s)"
    )
    parser.add_argument(
        "--lenpen",
        type=float,
        default=1.0,
        metavar="X",
        help="length penalty: above 1 favours long translations (default: %(default)s)",
    )
    args = parser.parse_args()
    if args.beam < 1:
        raise RecipeError(f"--beam {args.beam}: allowed is 1, 2, 3, ...")
    for rate in args.rates:
        if not 0 <= rate <= 1:
            raise RecipeError(f"--rates {rate:g}: allowed is 0 to 1")
    for radius in args.radii:
        if not 0 <= radius < float("inf"):
            raise RecipeError(f"--radii {radius:g}: allowed is 0 or more")
    measured = robustness(
        args.data,
        named(args.checkpoint, args.label),
        args.out,
        split=args.split,
        seed=args.seed,
        rates=args.rates,
        radii=args.radii,
        beam=args.beam,
        lenpen=args.lenpen,
        cpu=args.cpu,
    )
    print(robustness_table(measured))
    print(f"{args.split}, {args.out / ROBUSTNESS}, {args.out / PICTURE}")


if __name__ == "__main__":
    sys.exit(run_main("recipes.evaluation.robustness", _main))
