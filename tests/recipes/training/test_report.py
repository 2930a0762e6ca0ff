"""The picture and the last screen of a demo."""

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib.image
import pytest

from recipes.support.errors import RecipeError
from recipes.support.files import SCORES, SUMMARY, TRANSLATIONS, write_json, write_table
from recipes.support.plot import plot_training
from recipes.training.report import representative, screen
from recipes.training.training_log import parse_log

GAUGES = {
    "salt": ("adv_loss", "delta_norm", "adv_gain", "interaction"),
    "smart": ("adv_loss", "delta_norm", "adv_gain", "proximal_loss"),
    "rdrop": ("adv_loss",),
    "transformer": (),
}


def training_log(updates: int, gauges: Sequence[str]) -> bytes:
    lines = []
    for update in range(10, updates + 1, 10):
        line = {"num_updates": str(update), "loss": str(1000 / update), "nll_loss": "5.0"}
        rare = () if update % 50 == 0 else ("adv_gain", "interaction")
        line |= {name: "0.4" for name in gauges if name not in rare}
        lines.append(json.dumps(line))
        if update % 50 == 0:
            lines.append(
                json.dumps({"valid_num_updates": update, "valid_nll_loss": 6, "valid_bleu": 12.5})
            )
    return "\n".join(lines).encode()


@pytest.mark.parametrize("updates", [10, 50, 400])
@pytest.mark.parametrize("gauges", GAUGES.values(), ids=GAUGES)
def test_the_picture_is_drawn_smoke(tmp_path: Path, updates: int, gauges: Sequence[str]) -> None:
    path = tmp_path / "training.png"
    log = parse_log(training_log(updates, gauges), "log")
    plot_training(log, "a title", 1.0 if "delta_norm" in gauges else None, updates, path)
    height, width, _ = matplotlib.image.imread(path).shape
    assert (width, height) == (1430, 936 if gauges else 468)
    assert list(tmp_path.iterdir()) == [path]


def test_the_picture_of_a_training_shorter_than_a_log_interval_smoke(tmp_path: Path) -> None:
    log = parse_log(b'{"valid_num_updates": 3, "valid_nll_loss": 9}', "log")
    plot_training(log, "a title", 1.0, 3, tmp_path / "training.png")


def test_representative_sentences_are_spread_over_the_quality() -> None:
    reference = "abcdefghijklmnopqrstuvwxyz"
    # The more of the reference is there, the higher is chrF; the order in the file is another.
    kept = [(8 * i) % 21 + 5 for i in (*range(0, 21, 2), *range(1, 21, 2))]
    rows = [{"translation": reference[:n], "reference": reference} for n in kept]
    chosen = representative(rows)
    ranks = [sorted(kept).index(len(row["translation"])) for row, _ in chosen]
    percentiles = [round(20 * share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert len({len(row["translation"]) for row, _ in chosen}) == 5
    assert ranks == [sorted(kept).index(sorted(kept)[p]) for p in percentiles]
    assert [chrf for _, chrf in chosen] == sorted(chrf for _, chrf in chosen)


def test_representative_of_fewer_sentences_than_are_shown() -> None:
    row = {"translation": "a", "reference": "a"}
    assert [chosen for chosen, _ in representative([row])] == 5 * [row]


@pytest.mark.parametrize(
    ("method", "shown_as"),
    [("salt", "SALT"), ("rdrop", "R-Drop"), ("label_smoothed_cross_entropy", "Transformer")],
)
def test_the_screen(tmp_path: Path, method: str, shown_as: str) -> None:
    systems = {
        "model": {"bleu": 21.04, "chrf": 41.26, "ter": 70.0, "length_ratio": 0.97},
        "nearest": {"bleu": 7, "chrf": 25, "ter": 90, "length_ratio": 1.1},
        "copy": {"bleu": 3, "chrf": 20, "ter": 95, "length_ratio": 0.9},
    }
    write_json({"systems": systems}, tmp_path / SCORES)
    summary = {"method": method, "bleu_signature": "tok:13a"}
    write_json(summary | {"seconds_total": 725, "seconds_training": 60}, tmp_path / SUMMARY)
    text = 5 * ["Siehe"], 5 * ["See"], 5 * ["Look"]
    columns = dict(zip(("source", "reference", "translation"), text, strict=True))
    write_table(columns, tmp_path / TRANSLATIONS)
    shown = screen(tmp_path)
    assert f"\n{shown_as:20}    21.0    41.3    70.0    0.97\n" in shown
    assert shown.count("source     Siehe\n  reference  See\n  chrF 0     Look") == 5
    assert "Time: 12 min 5 s, of which training 1 min 0 s" in shown


def test_the_screen_before_there_is_anything(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"summary\.json: not there; recipes/demo\.sh makes it"):
        screen(tmp_path)
