"""Do explanations agree? `python -m recipes.attention`.

Pearson's correlation of attention weights and gradient-based word importance, as Kitada and Iyatomi
(2021, section V-C and Table 2) measure it, of each sentence that a classifier reads and, as none of
them does, of each word that a translation model says; both of them shown. Of a translation model
also how well its attention aligns words, where right alignments are given.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from recipes.attention.agreement import (
    SENTENCE,
    TARGET_WORD,
    Agreement,
    Explained,
    agreement,
    to_show,
)
from recipes.attention.alignment import (
    AlignmentError,
    alignment_error,
    check_alignments,
    read_alignments,
)
from recipes.attention.importance import explain
from recipes.attention.page import write_page
from recipes.attention.picture import plot_sentences
from recipes.models.checkpoint import direction, of_sentences
from recipes.models.model import load, models_parser, named, quiet
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import ATTENTION, data_report, write_json, written_whole
from recipes.support.markdown import markdown_table

TABLE = "attention.md"
PICTURE, PAGE = "attention.png", "attention.html"
CONSTANT, FREE = "constant", "free"

_ON_PAGE, _LONGEST_ON_PAGE = 24, 40  # sentences; their words
_IN_PICTURE = {SENTENCE: (8, 25), TARGET_WORD: (2, 16)}


def measure(
    data: Path,
    checkpoints: Mapping[str, Path],
    out: Path,
    *,
    split: str | None = None,
    held: str = CONSTANT,
    alignments: Path | None = None,
    cpu: bool,
) -> str:
    """Measure each checkpoint; write what is found to `out`, return its table.

    :param data: a directory made by data_prep, of translations or of sentences with classes.
    :param checkpoints: by what to call them.
    :param split: None: test or, without one, valid.
    :param held: CONSTANT or FREE: whether gradients flow through the attention that is compared.
    :param alignments: right ones of a split of translations.

    Raises RecipeError for what cannot be explained.
    """
    split, unit = _chosen(data, split), _unit(data, alignments)
    right = None if alignments is None else read_alignments(alignments)
    if unit == TARGET_WORD:
        direction(data, list(checkpoints.values()))  # one for all
    explained: dict[str, list[Explained]] = {}
    for label, checkpoint in checkpoints.items():
        loaded = load(data, checkpoint, cpu)
        explained[label] = explain(loaded, split, label, held=held == CONSTANT)
        if alignments is not None and right is not None:
            check_alignments(alignments, right, explained[label])
    found = {label: agreement(of, unit) for label, of in explained.items()}
    errors = {
        label: alignment_error(right, of) for label, of in explained.items() if right is not None
    }
    definition = definition_of(unit, held, alignments is not None)
    table = agreement_table(found, errors)
    first = next(iter(explained.values()))
    title = f"Attention and importance on {split}"
    page, picture = (
        {
            label: [of[place] for place in to_show(first, most, longest)]
            for label, of in explained.items()
        }
        for most, longest in ((_ON_PAGE, _LONGEST_ON_PAGE), _IN_PICTURE[unit])
    )
    plot_sentences(picture, found, title, out / PICTURE)
    write_page(page, found, title, definition, out / PAGE)
    with written_whole(out / TABLE) as temporary:
        lines = [f"# {title}", "", table, "", *(f"- {line}" for line in definition)]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    models = [
        {
            "label": label,
            "checkpoint": str(checkpoints[label]),
            **asdict(of),
            "alignment": None if (error := errors.get(label)) is None else asdict(error),
        }
        for label, of in found.items()
    ]
    write_json(
        {
            "split": split,
            "attention_held": held,
            "alignments": alignments and str(alignments),
            "definition": definition,
            "models": models,
        },
        out / ATTENTION,
    )
    return table


def definition_of(unit: str, held: str, aligned: bool) -> list[str]:
    """Return sentences that say what is measured."""
    if unit == SENTENCE:
        said, asks = (
            "the class that is predicted",
            "the first token, or of the only query there is,",
        )
    else:
        said, asks = "each word of the reference, given those before it", "the target word"
    gradient = "does not flow" if held == CONSTANT else "flows"
    lines = [
        f"Attention: the weights of {asks} on the words of the source, mean over layers and heads.",
        f"Importance of a word: |sum over channels of gradient times embedding|, of the probability"
        f" of {said}; per sentence its sum is 1. The gradient {gradient} through the attention"
        f" weights (--attention-held {held}).",
        "Subwords are put together: of a word the attention is the sum, the importance that of all"
        " of it." + ("" if unit == SENTENCE else " Of a target word the attention is the mean."),
        "Correlation: Pearson's over the words of the source."
        + ("" if unit == SENTENCE else " A sentence has the mean over its target words."),
    ]
    if aligned:
        lines.append(
            "Alignment error rate: of the source word that each target word attends to most."
        )
    return lines


def agreement_table(
    found: Mapping[str, Agreement], errors: Mapping[str, AlignmentError | None]
) -> str:
    """Return the figures as a table in Markdown."""
    unit = next(iter(found.values())).unit
    header = ["model", "correlation", "standard error", "sentences", "of"]
    if unit == TARGET_WORD:
        header += ["target words"]
    header += ["undefined", "attention on words"]
    header += ["alignment error"] if errors else []
    rows: list[Sequence[str]] = [header]
    for label, of in found.items():
        row = [label, _figure(of.correlation), _figure(of.standard_error)]
        row += [f"{of.counted:,}", f"{of.sentences:,}"]
        row += [f"{of.units:,}"] if unit == TARGET_WORD else []
        why = [f"{count:,} {reason}" for reason, count in of.undefined.items() if count]
        row += [", ".join(why) or "0", _figure(of.attention_on_words)]
        if errors:
            error = errors[label]
            row.append(_figure(None if error is None else error.error_rate))
        rows.append(row)
    return markdown_table(rows)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _chosen(data: Path, split: str | None) -> str:
    """Return the split asked for or, without, test, or valid where there is no test."""
    report = data_report(data)
    splits = report["splits"] if of_sentences(data) else report["raw"]["kept"]
    return split or ("test" if "test" in splits else "valid")


def _unit(data: Path, alignments: Path | None) -> str:
    """Return what a correlation is of. Raises RecipeError for what has none."""
    if not of_sentences(data):
        return TARGET_WORD
    if alignments is not None:
        raise RecipeError(f"--alignments: {data} has no translations")
    if data_report(data)["task"] == "regression":
        raise RecipeError(f"{data} has scores: importance is of the probabilities of classes")
    return SENTENCE


@quiet()
def _main() -> None:
    parser = models_parser(
        "recipes.attention",
        "Measure how far attention weights and gradient-based word importance agree; show both.",
        f"{ATTENTION}, {TABLE}, {PICTURE} and {PAGE}",
        split=None,
    )
    parser.add_argument(
        "--attention-held",
        choices=(CONSTANT, FREE),
        default=CONSTANT,
        help="constant: no gradient flows through the attention weights; free: it does"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--alignments",
        type=Path,
        metavar="FILE",
        help="right links of words, 0-0 1-2 in each line, source first: what is attention's error?",
    )
    args = parser.parse_args()
    print(
        measure(
            args.data,
            named(args.checkpoint, args.label),
            args.out,
            split=args.split,
            held=args.attention_held,
            alignments=args.alignments,
            cpu=args.cpu,
        )
    )
    print(f"{args.out / ATTENTION}, {args.out / TABLE}, {args.out / PICTURE}, {args.out / PAGE}")


if __name__ == "__main__":
    sys.exit(run_main("recipes.attention", _main))
