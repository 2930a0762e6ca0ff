"""What came out of a comparison: scores over seeds, differences to plain training, gauges."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.comparison.contenders import PLAIN, Contender
from recipes.comparison.costs import Cost
from recipes.comparison.plan import Run
from recipes.comparison.run import at, has_begun
from recipes.evaluation.scores import Scorer
from recipes.support.files import LOG, SCORES, TRANSLATIONS, read_json, read_table
from recipes.support.seeds import OverSeeds
from recipes.training.training_log import TrainingLog, column, read_log

GAUGES = ("adv_loss", "adv_gain", "delta_norm", "interaction", "proximal_loss")


@dataclass(frozen=True)
class Outcome:
    """How well a method does after so many updates.

    All scores are of the test set, but for `dev_bleu`: greedy search, of the checkpoint that was
    chosen by it.

    :param bleu, chrf, length_ratio: see `recipes.evaluation.scores.Scores`; the length penalty is
        tuned.
    :param bleu_untuned: with a length penalty of 1.
    :param chosen: the updates of the chosen checkpoint.
    :param bleu_difference, chrf_difference: to plain training with the same seed.
    :param bleu_p, chrf_p: probability of such a difference by chance, by paired bootstrap.
    """

    updates: int
    bleu: OverSeeds
    chrf: OverSeeds
    length_ratio: OverSeeds
    bleu_untuned: OverSeeds
    lenpen: OverSeeds
    dev_bleu: OverSeeds
    chosen: OverSeeds
    bleu_difference: OverSeeds | None
    chrf_difference: OverSeeds | None
    bleu_p: Mapping[int, float]
    chrf_p: Mapping[int, float]

    def as_json(self) -> dict[str, Any]:
        """Return all of it in plain containers."""
        return {
            name: value.as_json() if isinstance(value, OverSeeds) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class Result:
    """What came out for one method; outcomes are None where no run has got there, or would in time.

    :param gauges: medians over the second half of the updates, means over seeds.
    :param logs: by seed.
    """

    contender: Contender
    cost: Cost
    equal_updates: Outcome | None
    equal_time: Outcome | None
    gauges: Mapping[str, float]
    logs: Mapping[int, TrainingLog]

    def as_json(self) -> dict[str, Any]:
        """Return all but the logs in plain containers."""
        outcomes = {"equal_updates": self.equal_updates, "equal_time": self.equal_time}
        return {
            "name": self.contender.name,
            "label": self.contender.label,
            "options": list(self.contender.options),
            "time": self.cost.time,
            "memory": self.cost.memory,
            **{name: found.as_json() if found else None for name, found in outcomes.items()},
            "gauges": dict(self.gauges),
        }


def collect(
    contenders: Sequence[Contender],
    runs: Sequence[Run],
    costs: Mapping[str, Cost],
    updates: int,
    in_time: Mapping[str, int],
    scorer: Scorer,
) -> list[Result]:
    """Return the results of the runs that are there, a method each, in the order given.

    :param updates: after how many to compare all.
    :param in_time: after how many to compare each in equal time.
    :param scorer: of the target language, for the significance of differences.
    """
    by_contender: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for run in runs:
        by_contender[run.contender].append(run)

    def systems(name: str, horizon: int) -> _Systems:
        found = {run.seed: _system(run, horizon) for run in by_contender[name]}
        return {seed: system for seed, system in found.items() if system is not None}

    plain_updates, plain_time = (systems(PLAIN, n) for n in (updates, in_time[PLAIN]))
    results = []
    for contender in contenders:
        name = contender.name
        logs = {
            run.seed: read_log(run.directory / LOG) for run in by_contender[name] if has_begun(run)
        }
        results.append(
            Result(
                contender,
                costs[name],
                _outcome(
                    updates, systems(name, updates), plain_updates, logs, name == PLAIN, scorer
                ),
                _outcome(
                    in_time[name],
                    systems(name, in_time[name]),
                    plain_time,
                    logs,
                    name == PLAIN,
                    scorer,
                ),
                _gauges(logs.values(), updates),
                logs,
            )
        )
    return results


@dataclass(frozen=True)
class _System:
    """What one run made of the test set."""

    scores: Mapping[str, Any]
    translations: list[str]
    references: list[str]


_Systems = Mapping[int, _System]  # by seed


def _system(run: Run, updates: int) -> _System | None:
    directory = at(run.directory, updates)
    if not (directory / SCORES).exists():
        return None
    rows = read_table(directory / TRANSLATIONS)
    return _System(
        read_json(directory / SCORES, made_by="recipes/compare.sh"),
        [row["translation"] for row in rows],
        [row["reference"] for row in rows],
    )


def _outcome(
    updates: int,
    systems: _Systems,
    plain: _Systems,
    logs: Mapping[int, TrainingLog],
    is_plain: bool,
    scorer: Scorer,
) -> Outcome | None:
    if not systems:
        return None
    # Plain training is not compared with itself.
    pairs = {
        seed: (system, plain[seed])
        for seed, system in systems.items()
        if seed in plain and not is_plain
    }

    def scores(name: str, of: str = "model") -> OverSeeds:
        return OverSeeds({s: system.scores["systems"][of][name] for s, system in systems.items()})

    def differences(name: str) -> OverSeeds | None:
        found = {
            seed: system.scores["systems"]["model"][name] - other.scores["systems"]["model"][name]
            for seed, (system, other) in pairs.items()
        }
        return OverSeeds(found) if found else None

    p_values = {
        seed: scorer.paired_bootstrap(other.translations, system.translations, system.references)
        for seed, (system, other) in pairs.items()
    }
    best = {seed: best_validation(logs[seed], updates) for seed in systems}
    return Outcome(
        updates,
        bleu=scores("bleu"),
        chrf=scores("chrf"),
        length_ratio=scores("length_ratio"),
        bleu_untuned=scores("bleu", "untuned"),
        lenpen=OverSeeds({seed: system.scores["lenpen"] for seed, system in systems.items()}),
        dev_bleu=OverSeeds({seed: bleu for seed, (_, bleu) in best.items()}),
        chosen=OverSeeds({seed: update for seed, (update, _) in best.items()}),
        bleu_difference=differences("bleu"),
        chrf_difference=differences("chrf"),
        bleu_p={seed: p["BLEU"] for seed, p in p_values.items()},
        chrf_p={seed: p["chrF2"] for seed, p in p_values.items()},
    )


def best_validation(log: TrainingLog, updates: int) -> tuple[int, float]:
    """Return update and dev BLEU of the checkpoint that is the best one after so many updates."""
    bleu = {r.update: r.values["bleu"] for r in log.valid if "bleu" in r.values}
    found = {update: value for update, value in bleu.items() if update <= updates}
    best = max(found.values())
    # As fairseq has it, the last one of equally good ones.
    return max(update for update, value in found.items() if value == best), best


def _gauges(logs: Iterable[TrainingLog], updates: int) -> dict[str, float]:
    by_gauge: dict[str, list[float]] = {name: [] for name in GAUGES}
    for log in logs:
        late = [record for record in log.train if updates / 2 < record.update <= updates]
        for name, medians in by_gauge.items():
            _, values = column(late, name)
            if values:
                medians.append(statistics.median(values))
    return {name: statistics.fmean(medians) for name, medians in by_gauge.items() if medians}
