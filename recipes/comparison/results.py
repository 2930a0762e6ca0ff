"""What came out of a comparison: scores over seeds, differences to plain training, gauges."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.comparison.contenders import Contender
from recipes.comparison.costs import Cost
from recipes.comparison.kinds.kind import Kind, System
from recipes.comparison.plan import Run
from recipes.comparison.run import at, has_begun
from recipes.support.files import LOG, SCORES
from recipes.support.seeds import OverSeeds
from recipes.training.training_log import TrainingLog, column, read_log

GAUGES = (
    *("adv_loss", "adv_gain", "delta_norm", "attention_delta_norm"),
    *("interaction", "proximal_loss"),
)


@dataclass(frozen=True)
class Outcome:
    """How well a method does after so many updates.

    :param figures: of the test set, by the keys of `Kind.columns`, and more that was found there;
        and of the checkpoint that was chosen, `chosen`, its updates, and what it was chosen by.
    :param differences: to plain training with the same seed, by the keys of `Kind.compared`.
    :param p: probability of such a difference by chance, by paired bootstrap, by key and seed.
    """

    updates: int
    figures: Mapping[str, OverSeeds]
    differences: Mapping[str, OverSeeds | None]
    p: Mapping[str, Mapping[int, float]]

    def as_json(self) -> dict[str, Any]:
        """Return all of it in plain containers."""
        return {
            "updates": self.updates,
            **{key: figure.as_json() for key, figure in self.figures.items()},
            **{
                f"{key}_difference": found.as_json() if found else None
                for key, found in self.differences.items()
            },
            **{f"{key}_p": of_seeds for key, of_seeds in self.p.items()},
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
    kind: Kind,
) -> list[Result]:
    """Return the results of the runs that are there, a method each, in the order given.

    :param updates: after how many to compare all.
    :param in_time: after how many to compare each in equal time.
    :param kind: what the runs do.
    """
    by_contender: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for run in runs:
        by_contender[run.contender].append(run)

    def systems(name: str, horizon: int) -> _Systems:
        return {
            run.seed: kind.system(at(run.directory, horizon))
            for run in by_contender[name]
            if (at(run.directory, horizon) / SCORES).exists()
        }

    plain_updates, plain_time = (systems(kind.plain, n) for n in (updates, in_time[kind.plain]))
    results = []
    for contender in contenders:
        name = contender.name
        logs = {
            run.seed: read_log(run.directory / LOG) for run in by_contender[name] if has_begun(run)
        }
        # Plain training is not compared with itself.
        rivals = ({}, {}) if name == kind.plain else (plain_updates, plain_time)
        after = (updates, in_time[name])
        equal_updates, equal_time = (
            _outcome(n, systems(name, n), rival, logs, kind)
            for n, rival in zip(after, rivals, strict=True)
        )
        results.append(
            Result(
                contender,
                costs[name],
                equal_updates,
                equal_time,
                _gauges(logs.values(), updates),
                logs,
            )
        )
    return results


_Systems = Mapping[int, System]  # by seed


def _outcome(
    updates: int,
    systems: _Systems,
    plain: _Systems,
    logs: Mapping[int, TrainingLog],
    kind: Kind,
) -> Outcome | None:
    if not systems:
        return None
    pairs = {seed: (plain[seed], system) for seed, system in systems.items() if seed in plain}

    def differences(key: str) -> OverSeeds | None:
        found = {
            seed: system.figures[key] - other.figures[key]
            for seed, (other, system) in pairs.items()
        }
        return OverSeeds(found) if found else None

    p_values = {seed: kind.p_values(other, system) for seed, (other, system) in pairs.items()}
    best = {seed: best_validation(logs[seed], updates, kind.chosen_by.key) for seed in systems}
    keys = next(iter(systems.values())).figures
    return Outcome(
        updates,
        figures={
            **{
                key: OverSeeds({s: found.figures[key] for s, found in systems.items()})
                for key in keys
            },
            f"dev_{kind.chosen_by.key}": OverSeeds({s: value for s, (_, value) in best.items()}),
            "chosen": OverSeeds({seed: update for seed, (update, _) in best.items()}),
        },
        differences={column.key: differences(column.key) for column in kind.compared},
        p={
            column.key: {seed: p[column.key] for seed, p in p_values.items() if column.key in p}
            for column in kind.compared
        },
    )


def best_validation(log: TrainingLog, updates: int, metric: str) -> tuple[int, float]:
    """Return update and dev score of the checkpoint that is the best one after so many updates."""
    scores = dict(zip(*column(log.valid, metric), strict=True))
    found = {update: value for update, value in scores.items() if update <= updates}
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
