"""Does a translator change its mind too easily, or too late?

A word of the source is replaced by a synonym, and the translation should hardly change; by an
antonym, or a verb is negated, and it should. What is replaced is drawn, the same for all models.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.substitutions.words import Substitutions, replaced
from recipes.attack.negation import negations
from recipes.attack.report import (
    ANTONYMS,
    ATTACKS,
    FOUND,
    NEGATION,
    PICTURE,
    SYNONYMS,
    TABLE,
    Rate,
    plot_rates,
)
from recipes.evaluation.noise import seed_of
from recipes.evaluation.robustness import binarised, prepare, source_of
from recipes.models.checkpoint import direction
from recipes.models.generation import best, translate
from recipes.models.prepared import Prepared
from recipes.support.errors import RecipeError
from recipes.support.files import write_json, write_table, written_whole
from recipes.support.markdown import markdown_table

LANGUAGE = "en"
"""Of substitutions."""
_MEANT = {
    SYNONYMS: "translations that change (fickle)",
    ANTONYMS: "translations that stay the same (obstinate)",
    NEGATION: "translations that stay the same (obstinate)",
}
_COLUMNS = (
    *("model", "attack", "id", "same", "changed", "source", "changed source", "translation"),
    "changed translation",
)


@dataclass(frozen=True)
class Changed:
    """A source sentence with something else in it.

    :param words: before and after; of a negation the sentence alone says it.
    """

    sentence: str
    words: tuple[str, str] | None


def changed(
    sentences: Sequence[str], substitutions: Substitutions, kind: str, seed: int
) -> dict[int, Changed]:
    """Return the sentences that can be attacked, each with a change that is drawn, by number.

    A word is drawn, and then one of those that may stand for it.
    """
    found = {}
    for number, sentence in enumerate(sentences):
        rng = random.Random(seed_of(seed, kind, number))
        if kind == NEGATION:
            if others := negations(sentence):
                found[number] = Changed(rng.choice(others), None)
            continue
        places = substitutions.places(sentence)
        rng.shuffle(places)
        for place in places:
            words = list(getattr(place.choices, kind))
            rng.shuffle(words)
            candidates = ((word, replaced(sentence, [(place, word)])) for word in words)
            chosen = next(
                ((w, text) for w, text in candidates if substitutions.keeps_its_part(text, place)),
                None,
            )
            if chosen is not None:
                old = sentence[place.start : place.end]
                found[number] = Changed(chosen[1], (old, chosen[0]))
                break
    return found


@dataclass(frozen=True)
class Outcome:
    """An attack on one model.

    :param sentences: that have a word to change.
    :param rate: of translations that change (synonyms), or stay (antonyms, negation).
    :param chrf: of translations of changed sentences, against those of the unchanged ones.
    """

    sentences: int
    rate: Rate
    chrf: float | None


def attack_translations(
    data: Path,
    checkpoints: Mapping[str, Path],
    out: Path,
    *,
    split: str,
    kinds: Sequence[str],
    substitutions: Substitutions,
    seed: int = 1,
    beam: int = 5,
    cpu: bool = False,
) -> str:
    """Attack models; write table, picture, figures and all translations to `out`.

    :param data: a directory made by data_prep, of English source.
    :param checkpoints: by what to call them.

    Returns the table. Raises RecipeError for another source language.
    """
    prepared = Prepared.of(data, direction(data, list(checkpoints.values())))
    if prepared.languages[0] != LANGUAGE:
        raise RecipeError(
            f"{data}: its source is in {prepared.languages[0]}; substitutions are English"
        )
    source, clean = source_of(prepared, split)
    changes = {kind: changed(source, substitutions, kind, seed) for kind in kinds}
    attacked = sorted({number for of_kind in changes.values() for number in of_kind})
    # Both sides of a comparison are prepared alike, though a corpus may come with other tokens.
    encoded = prepare(prepared, [source[number] for number in attacked])
    for number, line in zip(attacked, encoded, strict=True):
        clean[number] = line
    with binarised(prepared, split, clean) as directory:
        before = {
            label: _translations(prepared, directory, split, clean, checkpoint, beam, cpu)
            for label, checkpoint in checkpoints.items()
        }
    outcomes: dict[str, dict[str, Outcome]] = {label: {} for label in checkpoints}
    rows: list[list[str]] = []
    for kind, of_kind in changes.items():
        subwords = list(clean)
        encoded = prepare(prepared, [change.sentence for change in of_kind.values()])
        for number, line in zip(of_kind, encoded, strict=True):
            subwords[number] = line
        with binarised(prepared, split, subwords) as directory:
            for label, checkpoint in checkpoints.items():
                now = _translations(prepared, directory, split, subwords, checkpoint, beam, cpu)
                pairs = {number: (before[label][number], now[number]) for number in of_kind}
                outcomes[label][kind] = _outcome(prepared, kind, list(pairs.values()))
                for number, (old, new) in pairs.items():
                    words = of_kind[number].words
                    told = "" if words is None else " > ".join(words)
                    columns = [label, kind, str(number), "yes" if old == new else "no", told]
                    columns += [source[number], of_kind[number].sentence, old, new]
                    rows.append(columns)
    table = _table(outcomes)
    rates = {label: {kind: o.rate for kind, o in of.items()} for label, of in outcomes.items()}
    plot_rates(rates, _MEANT, out / PICTURE)
    with written_whole(out / TABLE) as temporary:
        text = [f"# Attacks on {split}", table, _DEFINITION]
        temporary.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    write_table({name: [row[i] for row in rows] for i, name in enumerate(_COLUMNS)}, out / ATTACKS)
    models: dict[str, Any] = {
        label: {
            "checkpoint": str(checkpoints[label]),
            "attacks": {kind: vars(o) | {"rate": vars(o.rate)} for kind, o in of.items()},
        }
        for label, of in outcomes.items()
    }
    facts = {"data": str(data), "split": split, "seed": seed, "beam": beam, "models": models}
    write_json(facts, out / FOUND)
    return table


def _translations(
    prepared: Prepared,
    directory: Path,
    split: str,
    subwords: Sequence[str],
    checkpoint: Path,
    beam: int,
    cpu: bool,
) -> list[str]:
    found = translate(directory, prepared.languages, split, subwords, checkpoint, beam, cpu)
    return prepared.plain(best(found, 1.0))


def _outcome(prepared: Prepared, kind: str, pairs: Sequence[tuple[str, str]]) -> Outcome:
    stays = [old == new for old, new in pairs]
    succeeded = [not same for same in stays] if kind == SYNONYMS else stays
    if not pairs:
        return Outcome(0, Rate.of([]), None)
    old, new = map(list, zip(*pairs, strict=True))
    # Of a model that says nothing yet there is nothing to compare with.
    chrf = prepared.scorer.score(new, old).chrf if any(map(str.strip, old)) else None
    return Outcome(len(pairs), Rate.of(succeeded), chrf)


_DEFINITION = (
    "Of source sentences in which one word can be replaced: the share, per cent, whose translation"
    " changes at all (synonyms: small is good), or stays the same to the letter (antonyms,"
    " negation: small is good), with the 95 % interval of the bootstrap over sentences; and chrF of"
    " the translations of changed sentences against those of unchanged ones. The word, and what"
    " takes its place, are drawn, the same for all models."
)


def _table(outcomes: Mapping[str, Mapping[str, Outcome]]) -> str:
    rows = [["model", "attack", "translations that", "per cent", "sentences", "chrF to before"]]
    for label, kinds in outcomes.items():
        for kind, of in kinds.items():
            does = "change" if kind == SYNONYMS else "stay"
            chrf = "-" if of.chrf is None else f"{of.chrf:.1f}"
            rows.append([label, kind, does, str(of.rate), f"{of.sentences:,}", chrf])
    return markdown_table(rows)
