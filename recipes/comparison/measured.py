"""A contender's training in this process, whose updates are timed and whose memory is measured."""

import gc
import itertools
import logging
import math
import os
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from typing import Any, NoReturn

from recipes.support.errors import RecipeError

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
    import numpy as np

    def words(indices: Any) -> int:
        # One number for each sentence or, where it has a target, two.
        sizes = np.stack([np.atleast_1d(epoch.dataset.size(index)) for index in indices])
        return len(indices) * int(sizes.max(axis=0).sum())

    largest = nlargest(_LARGEST, epoch.frozen_batches, key=words)
    return [epoch.collate_fn([epoch.dataset[i] for i in indices]) for indices in largest]


def peak_memory(update: Callable[[], object], cuda: bool) -> int:
    """Return the bytes that torch has allocated at the peak of ``update``, above those before it.

    On the CPU, what was allocated before and is freed meanwhile is not deducted.
    """
    import torch

    from fairseq_adv.replaced import replaced

    if cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        # At the end of an update fairseq notes the peak for its log, and resets it.
        with replaced(torch.cuda, "reset_peak_memory_stats", lambda *_: None):
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


def be_quiet() -> None:
    """Keep what fairseq and torch say from the screen. Before torch is imported."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, at each start and stop
