"""What comes out of a comparison of methods, and how it is shown."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import sacrebleu

from data_prep.preparation import Preparation
from recipes.comparison.__main__ import _check_scored_alike, write
from recipes.comparison.contenders import contender, contenders
from recipes.comparison.costs import Cost
from recipes.comparison.kinds.translation import Translation
from recipes.comparison.plan import Budget, Run
from recipes.comparison.results import Result, best_validation, collect
from recipes.comparison.run import at
from recipes.comparison.table import Conditions, markdown, significance
from recipes.evaluation.scores import Scorer
from recipes.support.errors import RecipeError
from recipes.support.files import LOG, SCORES, TRANSLATIONS, read_json, write_json, write_table
from recipes.support.seeds import OverSeeds, over_seeds
from recipes.training.training_log import TrainingLog, parse_log
from tests.recipes.comparison.plans import data, planned

__all__ = ["data"]

# ---- What comes out ------------------------------------------------------------------------------

REFERENCES = [
    f"{subject} {verb} the {thing} in the {place} ."
    for subject in ("He", "She", "Peter")
    for verb in ("opens", "closes", "sees", "moves")
    for thing in ("file", "window", "table")
    for place in ("list", "menu", "first dialogue")
]


def worse(references: list[str], every: int) -> list[str]:
    """Each so many-th translation lacks its end and has a wrong word."""
    return [
        " ".join(["It", *line.split()[1:-3]]) if i % every == 0 else line
        for i, line in enumerate(references)
    ]


def finished_run(
    out: Path, data: Path, name: str, seed: int, at_updates: dict[int, list[str]], log: str
) -> Run:
    """A run as it lies there when it is finished, with translations at its horizons."""
    run = planned(out, data, contender=contender(name), seed=seed, horizons=tuple(at_updates))
    run.save()
    (run.directory / LOG).write_text(log)
    for updates, translations in at_updates.items():
        model = vars(Scorer().score(translations, REFERENCES))
        untuned = model | {"bleu": model["bleu"] - 1}
        systems = {"model": model, "untuned": untuned}
        write_json({"systems": systems, "lenpen": 1.2}, at(run.directory, updates) / SCORES)
        columns = {"translation": translations, "reference": REFERENCES}
        write_table(columns, at(run.directory, updates) / TRANSLATIONS)
    return run


def log_of(bleu: list[float], **gauges: float) -> str:
    """A log with a validation after every 5 updates."""
    lines = []
    for i, value in enumerate(bleu):
        update = 5 * (i + 1)
        record = {"num_updates": update, "loss": 9 - i, "nll_loss": 8 - i}
        record |= {name: gauge * (i + 1) for name, gauge in gauges.items()}
        lines.append(json.dumps(record))
        valid = {"valid_num_updates": update, "valid_bleu": value, "valid_nll_loss": 8 - i}
        lines.append(json.dumps(valid))
    return "\n".join(lines) + "\n"


def described(data: Path, target: str = "en") -> Translation:
    """The data with what a report of data_prep's says of them."""
    report = {
        "languages": ["de", target],
        "raw": {"kept": {"train": 4000, "valid": 100, "test": len(REFERENCES)}},
        "preparation": asdict(Preparation()),
    }
    write_json(report, data / "report.json")
    (data / "raw").mkdir(exist_ok=True)
    (data / "raw" / f"test.{target}").write_text("\n".join(REFERENCES) + "\n", "utf-8")
    return Translation(data, beam=4)


@pytest.fixture
def story(tmp_path: Path, data: Path) -> tuple[list[Result], Conditions]:
    """Two methods, two seeds; plain training is cheap and trains longer; one run is missing."""
    out = tmp_path / "out"
    plain = {1: log_of([1, 5, 5, 4]), 2: log_of([2, 3, 6, 7])}
    runs = [
        finished_run(
            out,
            data,
            "transformer",
            seed,
            {10: worse(REFERENCES, 3), 20: worse(REFERENCES, 4)},
            plain[seed],
        )
        for seed in (1, 2)
    ]
    log = log_of(
        [3, 2],
        adv_loss=1.0,
        adv_gain=0.25,
        delta_norm=0.1,
        attention_delta_norm=0.3,
        interaction=0.2,
    )
    translations = {5: worse(REFERENCES, 4), 10: worse(REFERENCES, 9)}
    runs.append(finished_run(out, data, "salt", 1, translations, log))
    runs.append(planned(out, data, contender=contender("salt"), seed=2, horizons=(5, 10)))
    costs = {"transformer": Cost(1.0, 1.0), "salt": Cost(4.0, 1.5)}
    in_time = {"transformer": 20, "salt": 5}
    kind = described(data)
    results = collect(contenders(["salt"]), runs, costs, 10, in_time, kind)
    conditions = Conditions(
        corpus="toy",
        kind=kind,
        details=kind.details(),
        seeds=(1, 2),
        budget=Budget(10, 20, 5),
        options=("--max-tokens", "100"),
        trivial={"a copy of the source": (3.0, 24.25)},
        device="CPU",
        versions={"torch": "2.13.0"},
    )
    return results, conditions


def test_scores_are_compared_after_equal_updates_and_in_equal_time(
    story: tuple[list[Result], Conditions],
) -> None:
    (plain, salt), _ = story
    assert plain.equal_updates and plain.equal_time and salt.equal_updates and salt.equal_time
    third, fourth, ninth = (
        sacrebleu.corpus_bleu(worse(REFERENCES, every), [REFERENCES]).score for every in (3, 4, 9)
    )
    assert plain.equal_updates.figures["bleu"].by_seed == pytest.approx({1: third, 2: third})
    assert plain.equal_time.figures["bleu"].by_seed == pytest.approx({1: fourth, 2: fourth})
    assert plain.equal_updates.figures["bleu"].std == pytest.approx(0)
    assert plain.equal_updates.figures["bleu_untuned"].mean == pytest.approx(third - 1)
    assert plain.equal_updates.differences["bleu"] is None
    assert salt.equal_updates.updates == 10
    assert salt.equal_updates.figures["bleu"].by_seed == pytest.approx({1: ninth})
    assert salt.equal_updates.figures["bleu"].std is None
    assert salt.equal_updates.differences["bleu"] is not None
    assert salt.equal_updates.differences["bleu"].by_seed == pytest.approx({1: ninth - third})
    assert salt.equal_time.updates == 5
    assert salt.equal_time.differences["bleu"] is not None
    assert salt.equal_time.differences["bleu"].mean == pytest.approx(0)  # against 20 plain updates


def test_significance_is_what_sacrebleu_s_command_line_says(
    story: tuple[list[Result], Conditions], tmp_path: Path
) -> None:
    files = {"references": REFERENCES, "plain": worse(REFERENCES, 3), "salt": worse(REFERENCES, 9)}
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", "utf-8")
    command = [sys.executable, "-m", "sacrebleu", tmp_path / "references"]
    command += ["-i", tmp_path / "plain", tmp_path / "salt", "-m", "bleu", "chrf", "--paired-bs"]
    said = subprocess.run([*command, "-f", "text"], check=True, capture_output=True, text=True)
    bleu, chrf = map(float, re.findall(r"\(p = ([\d.]+)\)", said.stdout))  # four digits
    ours = Scorer().paired_bootstrap(files["plain"], files["salt"], REFERENCES)
    assert ours["BLEU"] == pytest.approx(bleu, abs=1e-4)
    assert ours["chrF2"] == pytest.approx(chrf, abs=1e-4)
    (_, salt), _ = story
    assert salt.equal_updates is not None
    assert salt.equal_updates.p["bleu"] == {1: ours["BLEU"]}


def test_scores_of_another_tokeniser_are_not_mixed_with_these(tmp_path: Path, data: Path) -> None:
    described(data, target="zh")
    run = finished_run(tmp_path, data, "salt", 1, {5: REFERENCES}, log_of([1]))
    path = at(run.directory, 5) / SCORES
    ours = Scorer.of("zh").signatures(REFERENCES, lower_cases=False)
    for version in ("version:2.6.0", "version:3.0.0"):
        signed = {name: re.sub(r"version:.*", version, text) for name, text in ours.items()}
        write_json(read_json(path, "the test") | {"signatures": signed}, path)
        _check_scored_alike([run])
    other = Scorer().signatures(REFERENCES, lower_cases=False)
    write_json(read_json(path, "the test") | {"signatures": other}, path)
    with pytest.raises(RecipeError, match=r"was scored with .*tok:13a.* remove .*seed-1"):
        _check_scored_alike([run])


def test_the_chosen_checkpoint_is_the_best_so_far_the_last_one_of_equals() -> None:
    log = parse_log(log_of([1, 5, 5, 4, 6]).encode(), "log")
    assert best_validation(log, 20, "bleu") == (15, 5)
    assert best_validation(log, 10, "bleu") == (10, 5)
    assert best_validation(log, 1000, "bleu") == (25, 6)


def test_gauges_are_of_the_second_half_of_the_equal_updates(
    story: tuple[list[Result], Conditions],
) -> None:
    (plain, salt), _ = story
    assert plain.gauges == {}
    # Of the records at 5 and 10 the second one, which is twice the first.
    assert salt.gauges == pytest.approx(
        {
            "adv_loss": 2.0,
            "adv_gain": 0.5,
            "delta_norm": 0.2,
            "attention_delta_norm": 0.6,
            "interaction": 0.4,
        }
    )


def test_mean_and_standard_deviation() -> None:
    """Of 1, 2, 6: mean 3, variance (4 + 1 + 9) / 2 = 7."""
    figure = OverSeeds({1: 1.0, 2: 2.0, 3: 6.0})
    assert figure.mean == 3
    assert figure.std == pytest.approx(math.sqrt(7))
    assert over_seeds(figure) == "3.0 ± 2.6"
    assert over_seeds(figure, sign="+") == "+3.0 ± 2.6"
    assert over_seeds(OverSeeds({1: 1.25}), digits=2) == "1.25"


def test_significance_counts_seeds_by_the_sign_of_their_difference(
    story: tuple[list[Result], Conditions],
) -> None:
    (plain, salt), _ = story
    assert plain.equal_updates and salt.equal_updates
    assert significance(plain.equal_updates, "bleu") == "-"
    differences = {"bleu": OverSeeds({1: 1.0, 2: -2.0, 3: 0.1})}

    def of(*p: float) -> str:
        by_seed = {"bleu": dict(enumerate(p, 1))}
        assert salt.equal_updates
        return significance(replace(salt.equal_updates, differences=differences, p=by_seed), "bleu")

    assert of(0.01, 0.001, 0.3) == "+1 -1 of 3"
    assert of(0.049, 0.05, 0.01) == "+2 of 3"
    assert of(0.5, 0.5, 0.5) == "0 of 3"


# ---- How it is shown -----------------------------------------------------------------------------


def test_the_table(story: tuple[list[Result], Conditions]) -> None:
    results, conditions = story
    text = markdown(conditions, results, ["salt, seed 2"])
    assert text.startswith("# toy: 2 methods, 2 seeds\n")
    assert "**Missing:** salt, seed 2." in text
    rows = {
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in text.splitlines()
        if line.startswith("|")
    }
    plain, salt = (result.equal_updates for result in results)
    assert plain and salt
    header = next(row for row in rows if row[-1] == "memory")
    by_name = {
        row[0]: dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)
    }
    assert by_name["plain"]["BLEU"] == f"{plain.figures['bleu'].mean:.1f} ± 0.0"
    assert by_name["plain"]["against plain"] == "-"
    assert by_name["SALT"]["BLEU"] == f"{salt.figures['bleu'].mean:.1f}"
    assert by_name["SALT"]["against plain"].startswith("+")
    assert by_name["SALT"]["p < 0.05"] == "+1 of 1"
    assert (by_name["SALT"]["time"], by_name["SALT"]["memory"]) == ("4.00", "1.50")
    assert ("SALT", "2.000", "0.500 (25%)", "0.20, attention 0.60", "40%", "-") in rows
    for said in (
        "de to en, 4,000 training pairs",
        "tok:13a",
        "copy of the source BLEU 3.0, chrF 24.2",
        "torch 2.13.0",
    ):
        assert said in text
    assert "`--max-tokens 100`" in text


def test_a_method_too_slow_for_a_checkpoint_in_equal_time_has_none(
    story: tuple[list[Result], Conditions], tmp_path: Path, data: Path
) -> None:
    results, conditions = story
    run = planned(tmp_path / "slow", data, contender=contender("salt"), seed=1, horizons=(10, 0))
    assert run.horizons == (10,)
    cost = {"transformer": Cost(1.0, 1.0), "salt": Cost(9.0, 1.5)}
    in_time = {"transformer": 20, "salt": 0}
    (_, slow) = collect(contenders(["salt"]), [run], cost, 10, in_time, described(data))
    assert slow.equal_time is None
    text = markdown(conditions, [results[0], slow], [])
    in_equal_time = text.split("## After equal time")[1]
    row = next(line for line in in_equal_time.splitlines() if line.startswith("| SALT"))
    assert set(row.split()) == {"|", "SALT", "-"}
    write(tmp_path / "new", conditions, [results[0], slow], [])
    assert (tmp_path / "new" / "bars.png").exists()


def test_everything_is_written(story: tuple[list[Result], Conditions], tmp_path: Path) -> None:
    results, conditions = story
    write(tmp_path, conditions, results, [])
    assert (tmp_path / "table.md").read_text("utf-8") == markdown(conditions, results, [])
    for picture in ("curves.png", "bars.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "table.json").read_text("utf-8"))
    assert found["budget"] == {"updates": 10, "time": 20, "every": 5}
    plain, salt = found["methods"]
    assert (plain["name"], salt["name"], salt["time"]) == ("transformer", "salt", 4.0)
    equal = results[1].equal_updates
    assert equal is not None
    assert salt["equal_updates"]["bleu"]["by_seed"] == {"1": equal.figures["bleu"].by_seed[1]}
    assert salt["equal_updates"]["bleu_p"] == {"1": equal.p["bleu"][1]}
    assert salt["gauges"]["interaction"] == pytest.approx(0.4)


def test_a_training_too_short_for_the_log_is_drawn_all_the_same(
    story: tuple[list[Result], Conditions], tmp_path: Path
) -> None:
    results, conditions = story
    short = {1: TrainingLog(train=[], valid=results[0].logs[1].valid)}
    write(tmp_path, conditions, [replace(result, logs=short) for result in results], [])
    assert (tmp_path / "table.json").exists()


def test_nothing_is_written_before_there_is_something(
    story: tuple[list[Result], Conditions], tmp_path: Path
) -> None:
    results, conditions = story
    nothing = [replace(result, logs={}) for result in results]
    write(tmp_path / "new", conditions, nothing, [])
    assert not (tmp_path / "new").exists()
