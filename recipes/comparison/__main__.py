"""Compare methods on one corpus: `python -m recipes.comparison`, which recipes/compare.sh calls."""

import argparse
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.support.parallel import cores
from data_prep.support.printing import printable
from data_prep.support.versions import installed
from recipes.comparison.contenders import Contender, contenders
from recipes.comparison.costs import Cost
from recipes.comparison.figures import plot_bars, plot_curves
from recipes.comparison.kinds.kind import Kind
from recipes.comparison.kinds.sentences import Sentences
from recipes.comparison.kinds.translation import Translation
from recipes.comparison.plan import RUNS, USER_DIR, Budget, Run, digest_of, plan_run
from recipes.comparison.results import Result, collect
from recipes.comparison.run import OUTPUT, at, is_finished, job_of
from recipes.comparison.table import Conditions, markdown
from recipes.models.checkpoint import of_sentences
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import SCORES, read_json, write_json, written_whole
from recipes.support.gpus import visible_gpus
from recipes.support.pool import finish_all, threads

COSTS = "costs.json"
TABLE = "table.md"
FIGURES = "table.json"
CURVES = "curves.png"
BARS = "bars.png"

_TOOLS = ("torch", "ve-fairseq", "fairseq", "sacrebleu")


def compare(
    kind: Kind,
    out: Path,
    methods: Sequence[str],
    seeds: Sequence[int],
    budget: Budget,
    options: Sequence[str],
    jobs: int | None,
) -> list[str]:
    """Train and score every method with every seed; write tables and pictures to `out`.

    :param kind: what the models do, with what data.
    :param methods: see `contenders.contender`.
    :param options: of fairseq-train, which all share.
    :param jobs: trainings at a time; None is one per GPU or, without, one per core.
    Returns what is missing, because its training failed.
    """
    if jobs is not None and jobs < 1:  # nothing would ever begin
        raise RecipeError(f"--jobs {jobs}: allowed is 1, 2, 3, ...")
    if len(set(seeds)) < len(seeds):  # two runs would train in one directory
        raise RecipeError(f"--seeds {' '.join(map(str, seeds))}: one is there twice")
    details = kind.details()  # or what is wrong with the data
    players = contenders(methods, kind.presets, kind.plain)
    gpus = [] if "--cpu" in options else visible_gpus()
    jobs = jobs or len(gpus) or cores()

    print(f"2/4 costs: time and memory of an update, {len(players)} methods")
    measured = measured_costs(kind, out / COSTS, players, options, threads(jobs))
    costs = {name: Cost(**cost) for name, cost in measured["methods"].items()}
    in_time = {p.name: budget.updates_in_time(costs[p.name].time) for p in players}
    runs = [
        plan_run(
            out,
            player,
            seed,
            kind,
            options,
            budget.every,
            horizons=(budget.updates, in_time[player.name]),
        )
        for seed in seeds
        for player in players
    ]
    for run in runs:
        run.save()
    _check_scored_alike(runs)
    conditions = Conditions(
        corpus=printable(out.name),
        kind=kind,
        details=details,
        seeds=tuple(seeds),
        budget=budget,
        options=tuple(options),
        trivial=kind.trivial(),
        device=measured["device"],
        versions={"python": platform.python_version(), **installed(_TOOLS)},
    )

    def write_report() -> None:
        missing = [f"{run.contender}, seed {run.seed}" for run in runs if not is_finished(run)]
        results = collect(players, runs, costs, budget.updates, in_time, kind)
        write(out, conditions, results, missing)

    print(f"3/4 training: {len(runs)} runs, {jobs} at a time, in {out / RUNS}")
    to_do = [job_of(run, costs[run.contender].time) for run in runs if not is_finished(run)]
    failed = finish_all(
        to_do,
        jobs,
        gpus,
        after_each=write_report,
        finished=len(runs) - len(to_do),
        unit="plain update",
    )
    print(f"4/4 report: {out / TABLE}, {FIGURES}, {CURVES}, {BARS}")
    write_report()
    return [job.name for job in failed]


def _check_scored_alike(runs: Sequence[Run]) -> None:
    """Raise RecipeError if a run that is there was scored otherwise."""
    for run in runs:
        for updates in run.horizons:
            path = at(run.directory, updates) / SCORES
            if path.exists():
                other = run.kind.check(read_json(path, made_by="recipes/compare.sh"))
                if other is not None:
                    raise RecipeError(
                        f"{path}: was scored with {other}, which is no longer what this"
                        f" data is scored with: remove {run.directory}, or choose another OUT"
                    )


def measured_costs(
    kind: Kind, path: Path, players: Sequence[Contender], options: Sequence[str], cpu_threads: int
) -> dict[str, Any]:
    """Return `costs.Costs` of all players as JSON; what `path` has of it is not measured again."""
    shared = ["--user-dir", str(USER_DIR), "--task", kind.task, *kind.options(), *options]
    conditions = {"shared": shared, "data": digest_of(kind.data)}
    there: dict[str, Any] = {}
    if path.exists():
        there = read_json(path, made_by="recipes/compare.sh")
        if any(there.get(name) != value for name, value in conditions.items()):
            there = {}
    known = there.get("options", {})
    new = [player for player in players if known.get(player.name) != list(player.options)]
    if not new:
        print(f"  already there, {path}")
        return there
    plain = next(player for player in players if player.name == kind.plain)
    measured = path.with_name(f".new-{path.name}")
    # A process of its own gives back a GPU's memory.
    command = [sys.executable, "-m", "recipes.comparison.costs", str(kind.data / "bin")]
    command += ["--out", str(measured), "--baseline", shlex.join([plain.name, *plain.options])]
    for player in new:
        if player is not plain:
            command += ["--method", shlex.join([player.name, *player.options])]
    environment = os.environ | {"OMP_NUM_THREADS": str(cpu_threads)}
    if subprocess.run([*command, "--", *shared], env=environment).returncode != 0:
        raise RecipeError("the costs of the methods could not be measured")
    found = read_json(measured, made_by="recipes/compare.sh") | conditions
    for name in ("methods", "options"):
        found[name] = there.get(name, {}) | found[name]
    write_json(found, path)
    measured.unlink()
    return found


def write(
    out: Path, conditions: Conditions, results: Sequence[Result], missing: Sequence[str]
) -> None:
    """Write tables and pictures; the table as JSON last, so that where it is, all is."""
    if not any(result.logs for result in results):
        return
    with written_whole(out / TABLE) as temporary:
        text = printable(markdown(conditions, results, missing))  # options may name files
        temporary.write_text(text, encoding="utf-8")
    kind = conditions.kind
    title = f"{conditions.corpus}, {kind.size()}"
    curves = f"{title}: mean over seeds, and range"
    plot_curves(results, kind, conditions.budget, curves, out / CURVES)
    plot_bars(results, kind, title, out / BARS)
    methods = [result.as_json() for result in results]
    write_json(conditions.as_json() | {"missing": list(missing), "methods": methods}, out / FIGURES)


def _kind(data: Path, encoder: Path | None, beam: int) -> Kind:
    """Return what models do with data. Raises RecipeError if there is no encoder for sentences."""
    if not of_sentences(data):
        return Translation(data, beam)
    if encoder is None:
        raise RecipeError(f"{data} has sentences with labels: give their encoder, --encoder DIR")
    return Sentences(data, encoder)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.comparison",
        description="Compare methods on one corpus.",
        usage="%(prog)s DATA OUT [options] -- options of fairseq-train",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="directory made by data_prep")
    parser.add_argument("out", type=Path, metavar="OUT", help="where the results go")
    parser.add_argument(
        "--methods",
        nargs="+",
        required=True,
        metavar="METHOD",
        help="presets, with changes to them after commas: salt,--dropout-masks=shared",
    )
    parser.add_argument("--seeds", nargs="+", type=int, required=True, metavar="N")
    parser.add_argument("--updates", type=int, required=True, metavar="N")
    parser.add_argument(
        "--time", type=int, required=True, metavar="N", help="equal time, in plain updates"
    )
    parser.add_argument("--every", type=int, required=True, metavar="N", help="save, and validate")
    parser.add_argument("--beam", type=int, default=5, metavar="N", help="of translations")
    parser.add_argument(
        "--encoder", type=Path, metavar="DIR", help="of sentences: what all trainings begin with"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="trainings at a time")
    # argparse itself takes no list of arguments after options.
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    args, options = parser.parse_args(words[:end]), words[end + 1 :]
    budget = Budget(args.updates, args.time, args.every)
    kind = _kind(args.data, args.encoder, args.beam)
    missing = compare(kind, args.out, args.methods, args.seeds, budget, options, args.jobs)
    if (args.out / TABLE).exists():
        print("\n" + (args.out / TABLE).read_text("utf-8"))
    if missing:
        raise RecipeError(
            f"{len(missing)} runs failed: {'; '.join(missing)}; see {OUTPUT} in their directories,"
            " and run the same command again"
        )


if __name__ == "__main__":
    sys.exit(run_main("recipes.comparison", _main))
