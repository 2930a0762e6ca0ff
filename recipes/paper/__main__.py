"""Tables 2 and 3 and Figure 1 of the paper: `python -m recipes.paper`, called by recipes/paper.sh.

The trainings are those of `make train`, in the same directories: what is finished is reused, and
what this command has trained can be evaluated, exported or continued with the recipe.
"""

import argparse
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_prep.support.parallel import cores
from data_prep.support.versions import installed
from recipes.paper import study, tables
from recipes.paper.reported import TABLES, PaperTable
from recipes.paper.runs import PaperRun, over_runs
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import write_json, written_whole
from recipes.support.gpus import visible_gpus
from recipes.support.pool import finish_all

STUDY = "parameter-study"
_TOOLS = ("torch", "ve-fairseq", "sacrebleu")
_PAPER_S_OWN = "salt-paper"  # our salt plays another game than the paper's numbers


@dataclass(frozen=True)
class Scale:
    """At what size the recipes are run: `full` or `tiny`."""

    name: str

    def of(self, what: str) -> str:
        """Return the name of a recipe, or of what is made with them, at this scale."""
        return what if self.name == "full" else f"{what}-{self.name}"

    def recipes(self, paper_s: Sequence[str]) -> list[str]:
        """Return the recipes to take if the user names none: to try it, corpora at hand."""
        tiny = ["libreoffice-help-de-en", "multi30k-en-de"]
        return list(paper_s) if self.name == "full" else tiny


@dataclass(frozen=True)
class Plan:
    """What to train, and what to make of it.

    :param report: writes tables and pictures; it is given the runs that are not finished.
    """

    recipes: Sequence[str]
    runs: Sequence[PaperRun]
    report: Callable[[Sequence[PaperRun]], None]


def table_plan(table: PaperTable, args: argparse.Namespace, out: Path) -> Plan:
    """Return what a table takes."""
    recipes = args.recipes or args.scale.recipes(table.recipes)
    runs = [
        PaperRun(recipe, method, seed, args.scale.of(recipe))
        for recipe in recipes
        for seed in args.seeds
        for method in args.methods or [*table.methods, _PAPER_S_OWN]
    ]

    def report(missing: Sequence[PaperRun]) -> None:
        rows = {args.scale.of(r): tables.rows_of(table, r, runs) for r in recipes}
        text = tables.markdown(table, rows, args.seeds, _notes(runs, missing))
        with written_whole(out / "table.md") as temporary:
            temporary.write_text(text, encoding="utf-8")
        tables.plot(table, rows, out / "table.png")
        found = {
            "table": table.number,
            "missing": list(map(str, missing)),
            "rows": {name: [row.as_json() for row in of_name] for name, of_name in rows.items()},
        }
        write_json(found, out / "table.json")

    return Plan(recipes, runs, report)


def study_plan(args: argparse.Namespace, out: Path) -> Plan:
    """Return what the parameter study takes."""
    panels = study.panels(args.steps, args.radii)
    recipes = args.recipes or args.scale.recipes(["iwslt14-de-en"])
    runs = {
        recipe: study.runs_of(recipe, args.scale.of(recipe), panels, args.seeds)
        for recipe in recipes
    }

    def report(missing: Sequence[PaperRun]) -> None:
        for recipe, of_recipe in runs.items():
            name = args.scale.of(recipe)
            kind = "sacrebleu" if recipe in TABLES["table3"].recipes else "tokenized_bleu"
            points = study.points_of(panels, of_recipe, kind)
            plain = over_runs([run for run in of_recipe if run.method == tables.PLAIN], kind)
            notes = _notes(of_recipe, [run for run in missing if run.recipe == recipe])
            text = study.markdown(name, panels, points, plain, args.seeds, notes)
            with written_whole(out / f"{name}.md") as temporary:
                temporary.write_text(text, encoding="utf-8")
            study.plot(name, panels, points, plain, out / f"{name}.png")
            found = {
                "plain": plain.as_json() if plain else None,
                "missing": list(map(str, missing)),
                "points": [point.as_json() for point in points],
            }
            write_json(found, out / f"{name}.json")

    return Plan(recipes, [run for of_recipe in runs.values() for run in of_recipe], report)


def _notes(runs: Sequence[PaperRun], missing: Sequence[PaperRun]) -> list[str]:
    """Return the paragraphs below a table: what is missing, how it was measured."""
    notes = [f"**Missing:** {'; '.join(map(str, missing))}."] if missing else []
    scores = [found for run in runs if (found := run.scores) is not None]
    if scores:
        checkpoints = sorted({Path(found["checkpoint"]).name for found in scores})
        searches = sorted({f"beam {s['beam']}, length penalty {s['lenpen']:g}" for s in scores})
        signatures = sorted({f"`{found['signatures']['bleu']}`" for found in scores})
        notes += [
            f"Scored: {', '.join(checkpoints)}; {'; '.join(searches)}.",
            f"sacreBLEU: {', '.join(signatures)}",
        ]
    versions = {"python": platform.python_version(), **installed(_TOOLS)}
    return [*notes, ", ".join(f"{tool} {version}" for tool, version in versions.items())]


def finish(plan: Plan, args: argparse.Namespace, out: Path) -> None:
    """Train and score what is missing, as many runs at a time as there is room for; report."""
    gpus = visible_gpus()
    each = args.gpus_each if gpus else 0
    if each > len(gpus):
        raise RecipeError(f"GPUS_EACH={each}: there are {len(gpus)}")
    at_a_time = args.jobs or (len(gpus) // each if gpus else cores())
    jobs = [run.job(each, args.options) for run in plan.runs]  # refuses wrong settings
    scale = {"SCALE": args.scale.name}
    if args.dry_run:
        for recipe in plan.recipes:
            print(_line(scale, [f"recipes/{recipe}.sh", "data"]))
        for job in jobs:
            print(_line(scale | dict(job.environment), job.command))
        return
    for recipe in plan.recipes:
        # Before the runs, which would wait for one another.
        if not Path("data", args.scale.of(recipe), "report.json").exists():
            print(f"1/3 data: {recipe}")
            if subprocess.run([f"recipes/{recipe}.sh", "data"]).returncode:
                raise RecipeError(f"the corpus of recipes/{recipe}.sh could not be made")
    print(f"2/3 training: {len(jobs)} runs, {at_a_time} at a time")

    def report() -> None:
        plan.report([run for run in plan.runs if run.scores is None])

    failed = finish_all(jobs, at_a_time, gpus, after_each=report, gpus_each=max(1, each))
    print(f"3/3 report: {out}")
    report()
    for text in sorted(out.glob("*.md")):
        print("\n" + text.read_text("utf-8"))
    if failed:
        raise RecipeError(
            f"{len(failed)} of {len(jobs)} runs failed; the same command tries them again"
        )


def _line(variables: dict[str, str], command: Sequence[str]) -> str:
    """Return a command with its variables as one would type it."""
    return " ".join([*(f"{k}={shlex.quote(v)}" for k, v in variables.items()), shlex.join(command)])


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.paper",
        description="The paper's tables and Figure 1.",
        usage="%(prog)s WHAT [options] [-- options of fairseq-train]",
    )
    parser.add_argument("what", metavar="WHAT", choices=[*TABLES, STUDY])
    parser.add_argument("--recipes", nargs="*", metavar="NAME", help="(default: the paper's)")
    parser.add_argument("--methods", nargs="*", metavar="METHOD", help="of a table")
    parser.add_argument("--seeds", nargs="+", type=int, required=True, metavar="N")
    parser.add_argument("--steps", nargs="+", type=int, required=True, metavar="K")
    parser.add_argument("--radii", nargs="+", type=float, required=True, metavar="EPSILON")
    parser.add_argument("--scale", type=Scale, required=True, metavar="SCALE")
    parser.add_argument("--gpus-each", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=int, metavar="N", help="trainings at a time")
    parser.add_argument("--dry-run", action="store_true")
    # argparse itself takes no list of arguments after options.
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:end])
    args.options = words[end + 1 :]
    for name in ("gpus_each", "jobs"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise RecipeError(f"{name.upper()}={value}: allowed is 1, 2, 3, ...")
    for name in ("recipes", "methods", "seeds", "steps", "radii"):
        values = getattr(args, name)
        if len(set(values)) < len(values):
            raise RecipeError(f"{name.upper()}={' '.join(map(str, values))}: one is there twice")
    for recipe in args.recipes:
        if not Path("recipes", f"{recipe}.sh").is_file():
            raise RecipeError(f"RECIPES={recipe}: there is no recipes/{recipe}.sh")
    out = Path("results/paper", args.scale.of(args.what))
    make_plan = study_plan if args.what == STUDY else partial(table_plan, TABLES[args.what])
    finish(make_plan(args, out), args, out)


if __name__ == "__main__":
    sys.exit(run_main("recipes.paper", _main))
