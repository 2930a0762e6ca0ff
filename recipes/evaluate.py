"""Translate a split with a checkpoint by beam search, and score it: `python -m recipes.evaluate`.

Translations are detokenised and scored by sacreBLEU against the raw reference, so the scores can be
compared with anybody's.
"""

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from data_prep.lines import read_lines
from recipes.errors import RecipeError, run_main
from recipes.files import SCORES, TRANSLATIONS, data_report, write_json, write_table
from recipes.generation import Search, detokenize, translate
from recipes.trivial import nearest_translations


@dataclass(frozen=True)
class Scores:
    """How good the translations of a split are.

    :param bleu: 0 to 100.
    :param chrf: 0 to 100.
    :param length_ratio: tokens of the translations per token of the references, as BLEU counts
        them.
    """

    bleu: float
    chrf: float
    length_ratio: float


def score(hypotheses: list[str], references: list[str]) -> Scores:
    """Score detokenised translations against raw references."""
    bleu = BLEU().corpus_score(hypotheses, [references])
    chrf = CHRF().corpus_score(hypotheses, [references])
    return Scores(bleu.score, chrf.score, bleu.sys_len / bleu.ref_len)


def signatures(references: list[str]) -> dict[str, str]:
    """Return what else a score depends on, as sacreBLEU writes it, by metric."""
    result = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        metric.corpus_score(references, [references])  # it learns the number of references
        result[name] = str(metric.get_signature())
    return result


def evaluate(
    data: Path, checkpoint: Path, split: str, search: Search, trivial: bool, cpu: bool, out: Path
) -> dict[str, Any]:
    """Translate and score; write translations.tsv and scores.json to `out`, return the latter.

    :param data: a directory made by data_prep.
    :param trivial: also score copying the source, and the target of the nearest training sentence.
    """
    if not checkpoint.is_file():
        raise RecipeError(f"{checkpoint}: no such checkpoint")
    began = time.monotonic()
    source_lang, target_lang = languages = _languages(data)
    source, reference = (_read(data, split, lang) for lang in languages)
    if len(source) != len(reference):
        raise RecipeError(
            f"{data / 'raw'}: {split}.{source_lang} has {len(source)} lines,"
            f" {split}.{target_lang} {len(reference)}"
        )
    coded = translate(data / "bin", languages, split, len(source), checkpoint, search, cpu)
    systems = {"model": detokenize(coded, target_lang)}
    if trivial:
        train_source, train_target = (_read(data, "train", lang) for lang in languages)
        systems["nearest"] = nearest_translations(train_source, train_target, source)
        systems["copy"] = source
    scores = {
        "split": split,
        "sentences": len(source),
        "checkpoint": str(checkpoint),
        **asdict(search),
        "systems": {name: asdict(score(lines, reference)) for name, lines in systems.items()},
        "signatures": signatures(reference),
        "seconds": round(time.monotonic() - began, 1),
    }
    columns = {"source": source, "reference": reference, "translation": systems["model"]}
    if trivial:
        columns["nearest"] = systems["nearest"]
    write_table(columns, out / TRANSLATIONS)
    write_json(scores, out / SCORES)
    return scores


def _languages(data: Path) -> tuple[str, str]:
    source_lang, target_lang = data_report(data)["languages"]
    return source_lang, target_lang


def _read(data: Path, split: str, lang: str) -> list[str]:
    return list(read_lines(data / "raw" / f"{split}.{lang}"))


def score_table(scores: dict[str, Any], model: str) -> str:
    """Return the scores as a table for people; `model` is what to call the model in it."""
    names = {"model": model, "nearest": "nearest sentence", "copy": "copy of the source"}
    lines = [f"{'':20}{'BLEU':>8}{'chrF':>8}{'length':>8}"]
    for system, values in scores["systems"].items():
        lines.append(
            f"{names[system]:20}{values['bleu']:8.1f}{values['chrf']:8.1f}"
            f"{values['length_ratio']:8.2f}"
        )
    return "\n".join(lines)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.evaluate",
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
    parser.add_argument(
        "--lenpen",
        type=float,
        default=1.0,
        metavar="X",
        help="length penalty: above 1 favours long translations (default: %(default)s)",
    )
    parser.add_argument(
        "--trivial",
        action="store_true",
        help="also score two translators that need no training: copying the source, and the"
        " target of the nearest training sentence",
    )
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    args = parser.parse_args()
    if args.beam < 1:
        raise RecipeError(f"--beam {args.beam}: allowed is 1, 2, 3, ...")
    search = Search(args.beam, args.lenpen)
    scores = evaluate(
        args.data, args.checkpoint, args.split, search, args.trivial, args.cpu, args.out
    )
    print(score_table(scores, "the model"))
    print(f"{scores['sentences']} sentences, {args.out / TRANSLATIONS}, {args.out / SCORES}")


if __name__ == "__main__":
    sys.exit(run_main("recipes.evaluate", _main))
