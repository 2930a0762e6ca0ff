"""Measure what an update of each method costs: `python -m recipes.comparison.costs`.

    python -m recipes.comparison.costs data/demo/bin --out costs.json \\
      --baseline "transformer --criterion label_smoothed_cross_entropy" \\
      --method "salt --criterion salt --ascent-step-size 0.3" \\
      -- --task adversarial_translation --arch transformer --max-tokens 1000 ...

Time and peak memory of a whole update of fairseq-train, relative to the baseline's: all passes of a
game, optimizer, loss scale, accumulation, average model and replays included. Both trainings take
turns in one process, on the same batches, so that what else keeps the machine busy slows both down;
medians over the rounds count. Gauges are off: they are measured in few updates.
"""

import argparse
import gc
import math
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.support.progress import progress
from recipes.comparison.measured import ONE_PROCESS, Settings, Training, be_quiet, settings_of
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import write_json


@dataclass(frozen=True)
class Cost:
    """What an update costs, in units of what one of the baseline's costs.

    :param time: from the batches to the new parameters.
    :param memory: at its peak, on the largest batches, over what is held between updates
        (parameters, the optimizer's state, an average model); gradients count.
    """

    time: float
    memory: float


@dataclass(frozen=True)
class Costs:
    """What updates cost, and how it was measured.

    :param methods: by contender; the baseline's costs are 1.
    :param options: of fairseq-train, by contender.
    :param shared: options of fairseq-train for all.
    :param rounds: of which the median was taken.
    :param updates: of each contender in a round; so many times more where batches are replayed.
    :param tokens: target tokens in an update, the mean.
    :param device: name of the GPU, or CPU.
    :param threads: CPU threads of torch.
    :param torch: its version.
    """

    methods: dict[str, Cost]
    options: dict[str, list[str]]
    shared: list[str]
    baseline: str
    rounds: int
    updates: int
    tokens: float
    device: str
    threads: int
    torch: str


def measure(
    data: Path,
    shared: Sequence[str],
    contenders: Mapping[str, Sequence[str]],
    baseline: str,
    rounds: int,
    updates: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Costs:
    """Measure what an update of each contender costs, and print a line for each.

    :param data: binarised corpus.
    :param shared: options of fairseq-train for all.
    :param contenders: further options of fairseq-train for each, by name.
    :param baseline: the name of the contender that the others are compared with.
    :param updates: of each contender in a round; rounded up until all intervals between games fit.
    :param clock: seconds.

    Raises RecipeError that names the contender if fairseq refuses one, or fails.
    """
    import torch

    if not data.is_dir():
        raise RecipeError(f"{data}: no such directory")
    with tempfile.TemporaryDirectory(prefix="recipes-") as scratch:
        fixed = [str(data), *shared, *ONE_PROCESS, "--save-dir", scratch]  # it saves at a crash
        settings = {name: settings_of(name, [*fixed, *own]) for name, own in contenders.items()}
        interval = math.lcm(*(setting.interval for setting in settings.values()))
        updates = math.ceil(updates / interval) * interval
        plain = Training(settings.pop(baseline), updates, rounds * updates, clock)
        peak = plain.peak()
        costs = {baseline: Cost(1.0, 1.0)}
        with progress(None, "costs", "round", total=rounds * len(settings)) as bar:
            for name, setting in settings.items():
                cost = costs[name] = _cost(setting, plain, peak, rounds, bar)
                gc.collect()  # a trainer and its model refer to each other
                bar.write(
                    f"{name}: {cost.time:.2f} times the time of an update of {baseline},"
                    f" {cost.memory:.2f} times the memory"
                )
    return Costs(
        methods=costs,
        options={name: list(own) for name, own in contenders.items()},
        shared=list(shared),
        baseline=baseline,
        rounds=rounds,
        updates=updates,
        tokens=plain.tokens(),
        device=torch.cuda.get_device_name() if plain.cuda else "CPU",
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )


def _cost(settings: Settings, plain: Training, peak: int, rounds: int, bar: "tqdm[Any]") -> Cost:
    """Return what an update costs; its training ends here, since two models may fill a GPU.

    :param peak: of the plain training, in bytes.
    """
    method = Training(settings, plain.updates, len(plain.groups), plain.clock)
    memory = method.peak() / peak
    ratios = []
    for number in range(rounds):
        seconds = plain.seconds(number)
        ratios.append(method.seconds(number) / seconds)
        bar.update()
    return Cost(statistics.median(ratios), memory)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.comparison.costs",
        description="Measure time and memory of an update of each method, relative to a baseline.",
        epilog="A contender is a name and options of fairseq-train, in one argument:"
        ' "salt --criterion salt --ascent-step-size 0.3".',
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="binarised corpus")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    parser.add_argument(
        "--baseline", required=True, metavar="CONTENDER", help="whose costs are the unit"
    )
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="CONTENDER",
        help="what to measure; may be given several times",
    )
    parser.add_argument(
        "--rounds", type=int, default=11, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--updates",
        type=int,
        default=2,
        metavar="N",
        help="in each round, or as many more as --adv-interval asks for (default: %(default)s)",
    )
    parser.add_argument(
        "options", nargs="+", metavar="OPTIONS", help="of fairseq-train, for all, after --"
    )
    args = parser.parse_args()
    for option in ("rounds", "updates"):
        if getattr(args, option) < 1:
            raise RecipeError(f"--{option} {getattr(args, option)}: allowed is 1, 2, 3, ...")
    contenders = _contenders([args.baseline, *args.method])
    be_quiet()
    costs = measure(
        args.data, args.options, contenders, next(iter(contenders)), args.rounds, args.updates
    )
    write_json(asdict(costs), args.out)


def _contenders(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the options of each contender by its name."""
    result: dict[str, list[str]] = {}
    for text in texts:
        try:
            name, *options = shlex.split(text)
        except ValueError as error:
            raise RecipeError(f"{text!r} is not a name and options: {error}") from None
        if name in result:
            raise RecipeError(f"there are two contenders called {name}")
        result[name] = options
    return result


if __name__ == "__main__":
    sys.exit(run_main("recipes.comparison.costs", _main))
