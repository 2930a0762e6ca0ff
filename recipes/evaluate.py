"""Translate a split with a checkpoint by beam search, and score it: `python -m recipes.evaluate`.

Translations are detokenised and scored by sacreBLEU against the raw reference, so the scores can be
compared with anybody's. The length penalty is given, or chosen on the validation split.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from data_prep.lines import read_lines
from recipes.errors import RecipeError, run_main
from recipes.files import SCORES, TRANSLATIONS, data_report, sentences, write_json, write_table
from recipes.generation import Hypothesis, best, detokenize, translate, undo_bpe
from recipes.trivial import nearest_translations

LENPENS = tuple(round(0.2 * i, 1) for i in range(11))  # 0 to 2, to choose from
PLAIN_LENPEN = 1.0
TUNED_ON = "valid"


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


def tokenized_bleu(hypotheses: list[str], references: list[str]) -> float:
    """Return the BLEU of tokens as they are, 0 to 100: that of Moses' multi-bleu.perl.

    Papers on IWSLT report it. It depends on the tokeniser: compare it with the same one's only.
    """
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
    ):
        metric.corpus_score(references, [references])  # it learns the number of references
        result[name] = str(metric.get_signature())
    return result


def evaluate(
    data: Path,
    checkpoint: Path,
    out: Path,
    *,
    split: str = "test",
    beam: int = 5,
    lenpen: float | None = PLAIN_LENPEN,
    trivial: bool = False,
    cpu: bool = False,
) -> dict[str, Any]:
    """Translate and score; write translations.tsv and scores.json to `out`, return the latter.

    :param data: a directory made by data_prep.
    :param lenpen: length penalty (see `recipes.generation.best`); None chooses the one among
        `LENPENS` with the highest BLEU on the validation split. Then scores.json has the score with
        a length penalty of 1 too.
    :param trivial: also score copying the source, and the target of the nearest training sentence.
    """
    if not checkpoint.is_file():
        raise RecipeError(f"{checkpoint}: no such checkpoint")
    began = time.monotonic()
    report = data_report(data)
    source_lang, target_lang = report["languages"]
    languages = (source_lang, target_lang)
    plain = partial(detokenize, lang=target_lang, subword=report["preparation"]["subword"])

    def search(split: str) -> tuple[list[str], list[str], list[list[Hypothesis]]]:
        source, reference = _read_pairs(data, split, languages)
        found = translate(data / "bin", languages, split, len(source), checkpoint, beam, cpu)
        return source, reference, found

    tuning = {}
    if lenpen is None:
        _, reference, found = search(TUNED_ON)
        tuning = bleu_by_lenpen(found, reference, plain)
        lenpen = best_lenpen(tuning)
    source, reference, found = search(split)
    chosen = best(found, lenpen)
    systems = {"model": plain(chosen)}
    if tuning:
        systems["untuned"] = plain(best(found, PLAIN_LENPEN))
    if trivial:
        train_source, train_target = _read_pairs(data, "train", languages)
        systems["nearest"] = nearest_translations(train_source, train_target, source)
        systems["copy"] = source
    scores = {
        "split": split,
        "sentences": len(source),
        "checkpoint": str(checkpoint),
        "beam": beam,
        "lenpen": lenpen,
        "bleu_by_lenpen": {str(value): bleu for value, bleu in tuning.items()},
        "systems": {name: asdict(score(lines, reference)) for name, lines in systems.items()},
        "signatures": signatures(reference, report["preparation"]["lower_cases"]),
        "seconds": round(time.monotonic() - began, 1),
    }
    tokens = data / "tok" / f"{split}.{target_lang}"
    if report["preparation"]["subword"] == "bpe":
        scores["tokenized_bleu"] = tokenized_bleu(
            list(map(undo_bpe, chosen)), list(read_lines(tokens))
        )
    columns = {"source": source, "reference": reference, "translation": systems["model"]}
    if trivial:
        columns["nearest"] = systems["nearest"]
    write_table(columns, out / TRANSLATIONS)
    write_json(scores, out / SCORES)
    return scores


def bleu_by_lenpen(
    hypotheses: Sequence[Sequence[Hypothesis]],
    references: list[str],
    plain: Callable[[list[str]], list[str]],
) -> dict[float, float]:
    """Return the BLEU of the best hypotheses by each length penalty of `LENPENS`.

    :param plain: undoes subwords and tokens.
    """
    chosen = {lenpen: best(hypotheses, lenpen) for lenpen in LENPENS}
    different = list({text for texts in chosen.values() for text in texts})
    sentences = dict(zip(different, plain(different), strict=True))
    return {
        lenpen: score([sentences[text] for text in texts], references).bleu
        for lenpen, texts in chosen.items()
    }


def best_lenpen(bleu: Mapping[float, float]) -> float:
    """Return the length penalty with the highest BLEU; of equally good ones, that nearest to 1."""
    return max(bleu, key=lambda lenpen: (bleu[lenpen], -abs(lenpen - PLAIN_LENPEN)))


def _read_pairs(data: Path, split: str, languages: tuple[str, str]) -> tuple[list[str], list[str]]:
    source, target = (sentences(data, split, lang) for lang in languages)
    if len(source) != len(target):
        raise RecipeError(
            f"{data / 'raw'}: {split}.{languages[0]} has {len(source)} lines,"
            f" {split}.{languages[1]} {len(target)}"
        )
    return source, target


def score_table(scores: dict[str, Any], model: str) -> str:
    """Return the scores as a table for people; `model` is what to call the model in it."""
    names = {
        "model": model,
        "untuned": f"with lenpen {PLAIN_LENPEN:g}",
        "nearest": "nearest sentence",
        "copy": "copy of the source",
    }
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
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    args = parser.parse_args()
    if args.beam < 1:
        raise RecipeError(f"--beam {args.beam}: allowed is 1, 2, 3, ...")
    scores = evaluate(
        args.data,
        args.checkpoint,
        args.out,
        split=args.split,
        beam=args.beam,
        lenpen=None if args.tune_lenpen else args.lenpen,
        trivial=args.trivial,
        cpu=args.cpu,
    )
    print(score_table(scores, "the model"))
    if "tokenized_bleu" in scores:
        print(f"tokenised BLEU, as by multi-bleu.perl: {scores['tokenized_bleu']:.1f}")
    print(f"{scores['sentences']} sentences, {args.out / TRANSLATIONS}, {args.out / SCORES}")


if __name__ == "__main__":
    sys.exit(run_main("recipes.evaluate", _main))
