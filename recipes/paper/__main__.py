"""Tables and figures of papers: `python -m recipes.paper`, called by recipes/paper.sh.

The trainings are those of `make train`, in the same directories: what is finished is reused, and
what this command has trained can be evaluated, exported or continued with the recipe.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from recipes.paper import losses, probing, reliability, study, submission, tables
from recipes.paper.attention import study as attention_study
from recipes.paper.attention import table as attention_table
from recipes.paper.fine_tuning import Choice, table_plan
from recipes.paper.mixed import ablation
from recipes.paper.mixed import tables as mat_tables
from recipes.paper.plan import Corpus, Means, Plan, Scale, finish, missing_note, versions
from recipes.paper.reported import LABELS, TABLES, PaperTable
from recipes.paper.runs import Run, Translating, over_runs
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import write_json, written_whole

STUDY = "parameter-study"
SUBMISSION = "glue-submission"
_LABELS = {**LABELS, "attention-table": attention_table.TABLE}
_PLANS = {
    "figure2": reliability.plan,
    "figure3": losses.plan,
    "figure4": probing.plan,
    "attention-study": attention_study.plan,
    "mat-table": mat_tables.plan,
}
_ABLATION = "mat-ablation"
_PAPER_S_OWN = "salt-paper"  # our salt plays another game than the paper's numbers


def translation_table_plan(table: PaperTable, args: argparse.Namespace, out: Path) -> Plan:
    """Return what a table of BLEU takes."""
    recipes = args.recipes or args.scale.recipes(table.recipes)
    runs = [
        Translating(method, seed, recipe, args.scale.of(recipe))
        for recipe in recipes
        for seed in args.seeds
        for method in args.methods or [*table.methods, _PAPER_S_OWN]
    ]

    def report(missing: Sequence[Run]) -> None:
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

    return Plan(_corpora(recipes, args.scale), lambda: runs, report)


def study_plan(args: argparse.Namespace, out: Path) -> Plan:
    """Return what the parameter study takes."""
    panels = study.panels(args.steps, args.radii)
    recipes = args.recipes or args.scale.recipes(["iwslt14-de-en"])
    runs = {
        recipe: study.runs_of(recipe, args.scale.of(recipe), panels, args.seeds)
        for recipe in recipes
    }

    def report(missing: Sequence[Run]) -> None:
        for recipe, of_recipe in runs.items():
            name = args.scale.of(recipe)
            kind = "sacrebleu" if recipe in TABLES["table3"].recipes else "tokenized_bleu"
            points = study.points_of(panels, of_recipe, kind)
            plain = over_runs([run for run in of_recipe if run.method == tables.PLAIN], kind)
            notes = _notes(of_recipe, [run for run in missing if run in of_recipe])
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

    all_runs = [run for of_recipe in runs.values() for run in of_recipe]
    return Plan(_corpora(recipes, args.scale), lambda: all_runs, report)


def _corpora(recipes: Sequence[str], scale: Scale) -> list[Corpus]:
    return [Corpus(r, f"recipes/{r}.sh", {}, Path("data", scale.of(r))) for r in recipes]


def _notes(runs: Sequence[Run], missing: Sequence[Run]) -> list[str]:
    """Return the paragraphs below a table: what is missing, how it was measured."""
    notes = missing_note(missing)
    scores = [found for run in runs if (found := run.scores) is not None]
    if scores:
        checkpoints = sorted({Path(found["checkpoint"]).name for found in scores})
        searches = sorted({f"beam {s['beam']}, length penalty {s['lenpen']:g}" for s in scores})
        signatures = sorted({f"`{found['signatures']['bleu']}`" for found in scores})
        notes += [
            f"Scored: {', '.join(checkpoints)}; {'; '.join(searches)}.",
            f"sacreBLEU: {', '.join(signatures)}",
        ]
    return [*notes, versions()]


def _planner(what: str) -> Callable[[argparse.Namespace, Path], Plan]:
    """Return what plans a table or a figure, in its directory of results."""
    if what == STUDY:
        return study_plan
    if what in TABLES:
        return partial(translation_table_plan, TABLES[what])
    if what == _ABLATION:
        return lambda args, out: ablation.plan(
            Choice.of(args, what), out, samples=args.samples, lambdas=args.lambdas
        )
    of_labels = _PLANS.get(what) or partial(table_plan, _LABELS[what])
    return lambda args, out: of_labels(Choice.of(args, what), out)


def _above_0(variable: str, example: str, text: str) -> float:
    """Return a number above 0. Raises RecipeError that names the variable."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise RecipeError(f"{variable}={text}: allowed is a number above 0, such as {example}")
    return value


def _epsilon(text: str) -> str:
    """Return a radius as it stands in the names of directories, `3` for 3.0."""
    return f"{_above_0('EPSILONS', '0.3', text):g}"


def _samples(text: str) -> int:
    """Return a number of samples."""
    if not text.isdecimal() or int(text) < 1:
        raise RecipeError(f"SAMPLES={text}: allowed is 1, 2, 3, ...")
    return int(text)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.paper",
        description="Tables and figures of papers.",
        usage="%(prog)s WHAT [options] [-- options of fairseq-train]",
    )
    everything = [*TABLES, STUDY, *_LABELS, *_PLANS, _ABLATION, SUBMISSION]
    parser.add_argument("what", metavar="WHAT", choices=everything)
    parser.add_argument("--recipes", nargs="*", metavar="NAME", help="of translations")
    parser.add_argument("--tasks", nargs="*", metavar="NAME", help="of sentences")
    parser.add_argument("--encoder", default="minilm", metavar="NAME", help="of sentences")
    parser.add_argument("--methods", nargs="*", metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, required=True, metavar="N")
    parser.add_argument("--rates", nargs="*", metavar="LR", help="to choose from, on dev")
    parser.add_argument("--epsilons", nargs="*", type=_epsilon, help="to choose from, on dev")
    parser.add_argument("--steps", nargs="+", type=int, default=[1], metavar="K")
    parser.add_argument("--radii", nargs="+", type=float, default=[1.0], metavar="EPSILON")
    parser.add_argument("--samples", nargs="*", type=_samples, metavar="K", help="of the ablation")
    parser.add_argument(
        "--lambdas",
        nargs="*",
        type=partial(_above_0, "LAMBDAS", "0.5"),
        metavar="L",
        help="of the ablation",
    )
    parser.add_argument("--scale", type=Scale, required=True, metavar="SCALE")
    parser.add_argument("--gpus-each", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=int, metavar="N", help="trainings at a time")
    parser.add_argument("--dry-run", action="store_true")
    # argparse itself takes no list of arguments after options.
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:end])
    options = words[end + 1 :]
    for name in ("gpus_each", "jobs"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise RecipeError(f"{name.upper()}={value}: allowed is 1, 2, 3, ...")
    variables = (
        *("recipes", "tasks", "methods", "seeds", "steps", "radii", "epsilons"),
        *("samples", "lambdas"),
    )
    for name, variable in {**{name: name for name in variables}, "rates": "lrs"}.items():
        values = getattr(args, name) or []
        if len(set(values)) < len(values):
            raise RecipeError(
                f"{variable.upper()}={' '.join(map(str, values))}: one is there twice"
            )
    for recipe in args.recipes or []:
        if not Path("recipes", f"{recipe}.sh").is_file():
            raise RecipeError(f"RECIPES={recipe}: there is no recipes/{recipe}.sh")
    if args.what == SUBMISSION:
        submission.submit(Choice.of(args, args.what), args.dry_run)
        return
    out = Path("results/paper", args.scale.of(args.what))
    if args.what not in (*TABLES, STUDY):
        out /= Path(args.encoder).name
    means = Means(args.scale, options, args.gpus_each, args.jobs, args.dry_run)
    finish(_planner(args.what)(args, out), means, out)


if __name__ == "__main__":
    sys.exit(run_main("recipes.paper", _main))
