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
import itertools
import logging
import math
import os
import shlex
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from heapq import nlargest
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from tqdm import tqdm

from data_prep.support.progress import progress
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import write_json

# torch and fairseq are imported late: who only wants to read costs need not wait for them, and
# fairseq sets up the logging of the whole process.

_LARGEST = 3
"""In so many batches memory is measured, the largest ones."""
ONE_PROCESS = (
    *("--distributed-world-size", "1"),
    *("--num-workers", "0", "--data-buffer-size", "0"),  # nothing is loaded meanwhile
)

_Batch = dict[str, Any]
_Group = list[_Batch]
"""The batches of one update."""


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


def _cost(
    settings: "Settings", plain: "Training", peak: int, rounds: int, bar: "tqdm[Any]"
) -> Cost:
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


@dataclass(frozen=True)
class Settings:
    """A contender's configuration of fairseq.

    :param interval: updates from game to game.
    """

    name: str
    config: Any
    interval: int


def settings_of(name: str, words: Sequence[str]) -> Settings:
    """Return what fairseq-train makes of a command line."""
    from fairseq import options
    from fairseq.dataclass.initialize import add_defaults
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    import fairseq_adv.tasks  # noqa: F401  (registers task and criterions)

    with _blaming(name):
        parser = options.get_training_parser()
        parser.error = _exit
        args = options.parse_args_and_arch(parser, list(words))
        if hasattr(args, "gauge_interval"):
            args.gauge_interval = 0
        # A value out of range is refused later, when the criterion is built.
        interval = max(1, getattr(args, "adv_interval", 1))
        config = convert_namespace_to_omegaconf(args)
        add_defaults(config)
        return Settings(name, config, interval)


class Training:
    """A contender's training, by fairseq's own code, on batches that are loaded beforehand.

    :param updates: in a block, which is trained on at a time.
    :param groups: how many groups of batches to load, if an epoch has so many; where they are
        replayed, each comes so many times in a row and makes as many updates.
    :param clock: seconds.
    :param sharing: train this one's model with its optimizer, so that there is one for all.
    """

    def __init__(
        self,
        settings: Settings,
        updates: int,
        groups: int,
        clock: Callable[[], float],
        sharing: "Training | None" = None,
    ) -> None:
        from fairseq import tasks, utils
        from fairseq.data.iterators import GroupedIterator
        from fairseq.trainer import Trainer

        self._name = settings.name
        config = settings.config
        with _blaming(self._name):
            utils.set_torch_seed(config.common.seed)
            task = tasks.setup_task(config.task)
            model = task.build_model(config.model)
            criterion = task.build_criterion(config.criterion)
            if sharing:
                model = sharing.trainer.model
            self.trainer: Any = Trainer(config, task, model, criterion)
            if sharing:
                self.trainer._optimizer = sharing.trainer.optimizer
                self.trainer._lr_scheduler = sharing.trainer.lr_scheduler
            epoch = self.trainer.get_train_iterator(epoch=1)
            self.trainer.begin_epoch(1)
            batches = epoch.next_epoch_itr()
        accumulated = config.optimization.update_freq[0]
        grouped = GroupedIterator(batches, accumulated, skip_remainder_batch=True)
        self.replays: int = getattr(epoch, "replays", 1)
        self.period = math.lcm(settings.interval, self.replays)
        """Updates after which what they cost begins anew."""
        self.cuda: bool = self.trainer.cuda
        self.groups: list[_Group] = list(itertools.islice(grouped, groups * self.replays))
        self.updates = updates
        self.clock = clock
        if not self.groups:
            raise RecipeError(f"{self._name}: the training set has no {accumulated} batches")
        self._largest = [[batch] * accumulated for batch in _largest_batches(epoch)]

    def seconds(self, number: int) -> float:
        """Train on the `number`-th block of groups; return the seconds per update, the mean.

        After the last groups come the first again.
        """
        updates = self.updates * self.replays
        block = range(number * updates, (number + 1) * updates)
        groups = [self.groups[i % len(self.groups)] for i in block]
        self.wait()
        began = self.clock()
        for group in groups:
            self.update(group)
        self.wait()
        return (self.clock() - began) / updates

    def peak(self, batches: int = _LARGEST) -> int:
        """Warm up, and return the bytes at the peak of an update on one of the largest batches.

        :param batches: how many of them, at most the default.
        """
        self.seconds(0)
        peaks = []
        for group in self._largest[:batches]:
            for _ in range(self.period):
                self.trainer.zero_grad()  # frees gradients, which thus are not there before
                gc.collect()  # nor is anything whose release meanwhile would be deducted
                peaks.append(peak_memory(partial(self.update, group), self.cuda))
        return max(peaks)

    def tokens(self) -> float:
        """Return the target tokens of an update, the mean."""
        return statistics.fmean(sum(batch["ntokens"] for batch in group) for group in self.groups)

    def update(self, group: _Group) -> None:
        """Train on these batches, by fairseq's own whole update."""
        with _blaming(self._name):
            self.trainer.train_step(group, raise_oom=True)

    def wait(self) -> None:
        """Let the GPU finish what it was given."""
        if self.cuda:
            import torch

            torch.cuda.synchronize()


def _largest_batches(epoch: Any) -> list[_Batch]:
    """Return the batches of fairseq's iterator with the most words, padding included."""
    sizes = epoch.dataset.sizes  # sentences x 2: source, target

    def words(indices: Any) -> int:
        return len(indices) * int(sizes[indices].max(axis=0).sum())

    largest = nlargest(_LARGEST, epoch.frozen_batches, key=words)
    return [epoch.collate_fn([epoch.dataset[i] for i in indices]) for indices in largest]


def peak_memory(update: Callable[[], object], cuda: bool) -> int:
    """Return the bytes that torch has allocated at the peak of ``update``, above those before it.

    On the CPU, what was allocated before and is freed meanwhile is not deducted.
    """
    import torch

    if cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        # At the end of an update fairseq notes the peak for its log, and resets it.
        with mock.patch.object(torch.cuda, "reset_peak_memory_stats"):
            update()
        return torch.cuda.max_memory_allocated() - before
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        update()
    # Each event is an allocation, or a release of fewer than 0 bytes.
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate((event.nbytes() for event in events), initial=0))


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Turn whatever fairseq stops with into a RecipeError of one line that names the contender."""
    try:
        yield
    except SystemExit as error:
        raise RecipeError(f"{name}: {error}") from error
    except Exception as error:
        said = " ".join(str(error).split())
        raise RecipeError(f"{name}: {type(error).__name__}: {said}") from error


def _exit(message: str) -> NoReturn:
    """argparse's `error`, without the usage of all of fairseq."""
    raise SystemExit(message)


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


def be_quiet() -> None:
    """Keep what fairseq and torch say from the screen. Before torch is imported."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, at each start and stop


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
