"""Translate a split by beam search, and score it: `python -m recipes.evaluation.evaluate`.

Translations are detokenised and scored by sacreBLEU against the raw reference, so the scores can be
compared with anybody's. The length penalty is given, or chosen on the validation split.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.support.lines import read_lines
from recipes.evaluation.scores import Scorer, tokenized_bleu
from recipes.evaluation.trivial import nearest_translations
from recipes.models.checkpoint import direction
from recipes.models.generation import Hypothesis, best, translate, undo_bpe
from recipes.models.prepared import Prepared
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import (
    SCORES,
    TRANSLATIONS,
    read_table,
    write_json,
    write_table,
)

LENPENS = tuple(round(0.2 * i, 1) for i in range(11))  # 0 to 2, to choose from
PLAIN_LENPEN = 1.0
TUNED_ON = "valid"


def evaluate(
    data: Path,
    checkpoint: Path,
    out: Path,
    *,
    split: str = "test",
    beam: int = 5,
    lenpen: float | None = PLAIN_LENPEN,
    trivial: bool = False,
    split_compounds: bool = False,
    baseline: Path | None = None,
    cpu: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Translate and score; write translations.tsv and scores.json to `out`, return the latter.

    :param data: a directory made by data_prep. It is translated in the checkpoint's direction.
    :param lenpen: length penalty (see `recipes.models.generation.best`); None chooses the one among
        `LENPENS` with the highest BLEU on the validation split. Then scores.json has the score with
        a length penalty of 1 too.
    :param trivial: also score copying the source, and the target of the nearest training sentence.
    :param split_compounds: also give the tokenised BLEU with hyphenated words split.
    :param baseline: results of another system on the same split, to compare with.
    :param workers: see `recipes.models.generation.translate`.
    """
    began = time.monotonic()
    prepared = Prepared.of(data, direction(data, [checkpoint]))
    scorer = prepared.scorer
    if split_compounds and not prepared.has_moses_tokens:
        raise RecipeError(f"--split-compounds is for Moses' tokens, and {data} has none")
    source, reference = prepared.pairs(split)
    other = None if baseline is None else _translations(baseline, reference)

    def search(split: str) -> list[list[Hypothesis]]:
        binary, subwords = data / "bin", prepared.subwords(split)
        return translate(
            binary, prepared.languages, split, subwords, checkpoint, beam, cpu, workers
        )

    tuning = {}
    if lenpen is None:
        tuned_on = prepared.pairs(TUNED_ON)[1]
        tuning = bleu_by_lenpen(search(TUNED_ON), tuned_on, prepared.plain, scorer)
        lenpen = best_lenpen(tuning)
    found = search(split)
    chosen = best(found, lenpen)
    systems = {"model": prepared.plain(chosen)}
    if tuning:
        systems["untuned"] = prepared.plain(best(found, PLAIN_LENPEN))
    if trivial:
        systems["nearest"] = nearest_translations(*prepared.pairs("train"), source)
        systems["copy"] = source
    scores: dict[str, Any] = {
        "split": split,
        "sentences": len(source),
        "checkpoint": str(checkpoint),
        "beam": beam,
        "lenpen": lenpen,
        "bleu_by_lenpen": {str(value): bleu for value, bleu in tuning.items()},
        "systems": {
            name: asdict(scorer.score(lines, reference)) for name, lines in systems.items()
        },
        "signatures": scorer.signatures(reference, prepared.preparation.lower_cases),
    }
    if prepared.has_moses_tokens:
        tokens = list(map(undo_bpe, chosen))
        expected = list(read_lines(data / "tok" / f"{split}.{prepared.languages[1]}"))
        scores["tokenized_bleu"] = tokenized_bleu(tokens, expected)
        if split_compounds:
            split_bleu = tokenized_bleu(tokens, expected, split_compounds=True)
            scores["tokenized_bleu_compounds_split"] = split_bleu
    if other is not None:
        bleu = scores["systems"]["model"]["bleu"] - scorer.bleu(other, reference)
        p_values = scorer.paired_bootstrap(other, systems["model"], reference)
        scores["baseline"] = {"system": str(baseline), "bleu_difference": bleu, "p": p_values}
    scores["seconds"] = round(time.monotonic() - began, 1)
    columns = {"source": source, "reference": reference, "translation": systems["model"]}
    if trivial:
        columns["nearest"] = systems["nearest"]
    write_table(columns, out / TRANSLATIONS)
    write_json(scores, out / SCORES)
    return scores


def _translations(results: Path, reference: list[str]) -> list[str]:
    """Read another system's translations; raises RecipeError if they are of other sentences."""
    path = results / TRANSLATIONS
    if not path.is_file():
        raise RecipeError(
            f"{path}: not there; python -m recipes.evaluation.evaluate --out {results} makes it"
        )
    rows = read_table(path)
    if [row["reference"] for row in rows] != [line.replace("\t", " ") for line in reference]:
        raise RecipeError(f"{path} has translations of another test set")
    return [row["translation"] for row in rows]


def bleu_by_lenpen(
    hypotheses: Sequence[Sequence[Hypothesis]],
    references: list[str],
    plain: Callable[[list[str]], list[str]],
    scorer: Scorer,
) -> dict[float, float]:
    """Return the BLEU of the best hypotheses by each length penalty of `LENPENS`.

    :param plain: undoes subwords and tokens.
    """
    chosen = {lenpen: best(hypotheses, lenpen) for lenpen in LENPENS}
    different = list({text for texts in chosen.values() for text in texts})
    sentences = dict(zip(different, plain(different), strict=True))
    return {
        lenpen: scorer.bleu([sentences[text] for text in texts], references)
        for lenpen, texts in chosen.items()
    }


def best_lenpen(bleu: Mapping[float, float]) -> float:
    """Return the length penalty with the highest BLEU; of equally good ones, that nearest to 1."""
    return max(bleu, key=lambda lenpen: (bleu[lenpen], -abs(lenpen - PLAIN_LENPEN)))


def score_table(scores: dict[str, Any], model: str) -> str:
    """Return the scores as a table for people; `model` is what to call the model in it."""
    names = {
        "model": model,
        "untuned": f"with lenpen {PLAIN_LENPEN:g}",
        "nearest": "nearest sentence",
        "copy": "copy of the source",
    }
    lines = [f"{'':20}{'BLEU':>8}{'chrF':>8}{'TER':>8}{'length':>8}"]
    for system, values in scores["systems"].items():
        lines.append(
            f"{names[system]:20}{values['bleu']:8.1f}{values['chrf']:8.1f}{values['ter']:8.1f}"
            f"{values['length_ratio']:8.2f}"
        )
    return "\n".join(lines)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.evaluation.evaluate",
        description="Translate a split with a checkpoint by beam search, and score it.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="directory made by data_prep")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"where {TRANSLATIONS} and {SCORES} go",
    )
    parser.add_argument("--split", default="test", help="(default: %(default)s)")
    parser.add_argument(
        "--beam", type=int, default=5, metavar="N", help="beam size (default: %(default)s)"
    )
    lenpen = parser.add_mutually_exclusive_group()
    lenpen.add_argument(
        "--lenpen",
        type=float,
        default=PLAIN_LENPEN,
        metavar="X",
        help="length penalty: above 1 favours long translations (default: %(default)s)",
    )
    lenpen.add_argument(
        "--tune-lenpen",
        action="store_true",
        help=f"choose the length penalty, from {LENPENS[0]:g} to {LENPENS[-1]:g}, by the BLEU on"
        f" the split {TUNED_ON}",
    )
    parser.add_argument(
        "--trivial",
        action="store_true",
        help="also score two translators that need no training: copying the source, and the"
        " target of the nearest training sentence",
    )
    parser.add_argument(
        "--split-compounds",
        action="store_true",
        help="also give the tokenised BLEU with hyphenated words split, which is higher",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="DIR",
        help=f"results of another system on the same split ({TRANSLATIONS}): is this one better by"
        " more than chance?",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that translate (default: one per GPU or, without, one per core)",
    )
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    args = parser.parse_args()
    for option in ("beam", "workers"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise RecipeError(f"--{option} {value}: allowed is 1, 2, 3, ...")
    scores = evaluate(
        args.data,
        args.checkpoint,
        args.out,
        split=args.split,
        beam=args.beam,
        lenpen=None if args.tune_lenpen else args.lenpen,
        trivial=args.trivial,
        split_compounds=args.split_compounds,
        baseline=args.baseline,
        cpu=args.cpu,
        workers=args.workers,
    )
    print(score_table(scores, "the model"))
    if "tokenized_bleu" in scores:
        print(f"tokenised BLEU, as by multi-bleu.perl: {scores['tokenized_bleu']:.1f}")
    if args.split_compounds:
        split_bleu = scores["tokenized_bleu_compounds_split"]
        print(f"the same with compounds split, which adds to it: {split_bleu:.1f}")
    for name, signature in scores["signatures"].items():
        print(f"{name}: {signature}")
    if args.baseline:
        found = scores["baseline"]
        print(
            f"BLEU {found['bleu_difference']:+.1f} against {args.baseline}, p ="
            f" {found['p']['BLEU']:.3f} by paired bootstrap"
        )
    print(f"{scores['sentences']} sentences, {args.out / TRANSLATIONS}, {args.out / SCORES}")


if __name__ == "__main__":
    sys.exit(run_main("recipes.evaluation.evaluate", _main))
