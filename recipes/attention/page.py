"""Sentences with their attention and importance as one web page, without scripts or other files."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from data_prep.support.printing import printable
from recipes.attention.agreement import SENTENCE, Agreement, Explained
from recipes.support.files import written_whole

SIDES = ("attention", "importance")

_SHADES = (
    "The shade is the share of the most that a word of the sentence has (of the row, in a table);"
    " the pointer on a word shows its value. Sentences are chosen by their correlation in the first"
    " model, at equal steps from the lowest to the highest."
)
_STYLE = """
:root { color-scheme: light dark; --attention: #0072b2; --importance: #d55e00;
  --back: #fff; --text: #1b1b1b; --soft: #666; --line: #ddd; }
@media (prefers-color-scheme: dark) { :root { --attention: #56b4e9; --importance: #ff8c42;
  --back: #16181b; --text: #e6e6e6; --soft: #9a9a9a; --line: #34373b; } }
body { margin: 2rem auto; padding: 0 1.2rem; max-width: 76rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .2rem; }
p { margin: .3rem 0; max-width: 60rem; } .soft { color: var(--soft); font-size: .9rem; }
section { border-top: 1px solid var(--line); padding: .8rem 0; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr));
  gap: .4rem 2rem; }
.sides > div { overflow-x: auto; }
.side { font-size: .75rem; letter-spacing: .05em; text-transform: uppercase; color: var(--soft); }
.words { line-height: 2; }
.w { padding: .15em .25em; border-radius: .25em; white-space: pre-wrap; }
.attention { --colour: var(--attention); } .importance { --colour: var(--importance); }
.w { background: color-mix(in srgb, var(--colour) calc(var(--v) * .7%), transparent); }
table { border-collapse: collapse; font-size: .8rem; margin-top: .3rem; }
thead th { vertical-align: bottom; padding: .3em 0; }
thead th span { display: inline-block; writing-mode: vertical-rl; transform: rotate(180deg);
  white-space: nowrap; }
th { font-weight: normal; } tbody th { text-align: right; padding: 0 .5em; white-space: nowrap; }
td.w { width: 1.5em; min-width: 1.5em; height: 1.5em; border: 1px solid var(--line);
  border-radius: 0; padding: 0; }
.legend { display: inline-flex; gap: .2rem; align-items: center; margin-right: 1.6rem; }
"""


def write_page(
    models: Mapping[str, Sequence[Explained]],
    found: Mapping[str, Agreement],
    title: str,
    definition: Iterable[str],
    path: Path,
) -> None:
    """Write the page, whole or not at all.

    :param models: sentences to show, by the name of the model; translations as tables.
    :param definition: sentences that say what is shown.
    """
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="soft">{escape(line)}</p>' for line in (*definition, _SHADES)),
        _legend(),
    ]
    for label, sentences in models.items():
        parts.append(f"<h2>{escape(label)}</h2>\n<p>{escape(in_words(found[label]))}</p>")
        parts += [_sentence(of, found[label].unit) for of in sentences]
    parts.append("</body>\n</html>\n")
    with written_whole(path) as temporary:
        temporary.write_text(printable("\n".join(parts)), encoding="utf-8")


def in_words(of: Agreement) -> str:
    """Return the correlation of a model, as one says it."""
    if of.correlation is None:
        return f"No correlation is defined of its {of.sentences:,} sentences."
    error = "" if of.standard_error is None else f" \u00b1 {of.standard_error:.3f}"
    return (
        f"Pearson's correlation {of.correlation:.3f}{error} (standard error),"
        f" mean over {of.counted:,} of {of.sentences:,} sentences."
    )


def heading(of: Explained, unit: str) -> str:
    """Return what to say above a sentence."""
    parts = [f"sentence {of.number + 1}"]
    if unit == SENTENCE:
        parts.append(f"predicted {of.said[0]}" + (f", is {of.label}" if of.label else ""))
    if of.correlation is not None:
        parts.append(f"correlation {of.correlation:.2f}")
    return ", ".join(parts)


def shades(values: np.ndarray) -> np.ndarray:
    """Return values, R x W, as parts of the largest of their row, 0 to 1."""
    largest = values.max(axis=1, keepdims=True, initial=0)
    return np.divide(values, largest, out=np.zeros_like(values), where=largest > 0)


def _legend() -> str:
    steps = "".join(f'<span class="w" style="--v:{v}">&emsp;</span>' for v in (20, 40, 60, 80, 100))
    legends = "".join(
        f'<span class="legend {side}">{side}: little {steps} most</span>' for side in SIDES
    )
    return f'<p class="soft">{legends}</p>'


def _sentence(of: Explained, unit: str) -> str:
    shown = _words if unit == SENTENCE else _table
    sides = "".join(
        f'<div class="{side}"><div class="side">{side}</div>{shown(of, values)}</div>'
        for side, values in zip(SIDES, (of.attention, of.importance), strict=True)
    )
    head = f'<p class="soft">{escape(heading(of, unit))}</p>'
    return f'<section>{head}<div class="sides">{sides}</div></section>'


def _words(of: Explained, values: np.ndarray) -> str:
    shaded = " ".join(
        f'<span class="w" {_shade(shade, value)}>{escape(word)}</span>'
        for word, shade, value in zip(of.words, shades(values)[0], values[0], strict=True)
    )
    return f'<div class="words" dir="auto">{shaded}</div>'


def _table(of: Explained, values: np.ndarray) -> str:
    head = "".join(f"<th><span>{escape(word)}</span></th>" for word in of.words)
    rows = "".join(
        f"<tr><th>{escape(word)}</th>"
        + "".join(
            f'<td class="w" {_shade(shade, value)}></td>'
            for shade, value in zip(shades_of, row, strict=True)
        )
        + "</tr>"
        for word, shades_of, row in zip(of.said, shades(values), values, strict=True)
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _shade(shade: float, value: float) -> str:
    return f'style="--v:{100 * shade:.0f}" title="{value:.3f}"'
