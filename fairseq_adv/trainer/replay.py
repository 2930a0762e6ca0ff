"""Minibatch replay: batches that come several times in a row, and what they carry on.

For FreeAT, and for the samples of MAT's leader.

What fairseq takes for an epoch then has `replays` times as many updates, but is still one pass over
the data; all that counts, schedules, clips, accumulates and resumes is fairseq's own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from typing import Any

from fairseq.data.iterators import EpochBatchIterator
from torch import Tensor

from fairseq_adv.core.sites import Delta

logger = logging.getLogger(__name__)


class ReplayedBatches(EpochBatchIterator):
    """fairseq's iterator, with each group of `--update-freq` batches repeated `replays` times.

    Batches are repeated after they are dealt out to the workers, so that all workers replay at the
    same time.

    :param plain: the iterator to take the batches of.
    :param name: of the criterion, for the log.
    :param update_freq: batches per update and worker, for each epoch; the last one goes on.
    :param max_update: updates that the run is to make, for the log; 0 if that is open.
    """

    def __init__(
        self,
        plain: EpochBatchIterator,
        name: str,
        replays: int,
        update_freq: Sequence[int],
        max_update: int = 0,
    ) -> None:
        self.__dict__.update(plain.__dict__)
        self.name = name
        self.replays = replays
        self.update_freq = list(update_freq)
        self.max_update = max_update

    def __len__(self) -> int:
        group = self._group(self.epoch)
        return math.ceil(super().__len__() / group) * group * self.replays

    def ordered_batches(self, epoch: int, fix_batches_to_gpus: bool, shuffle: bool) -> list[Any]:
        """The batches of this worker in an epoch, each a list of sentence indices.

        An incomplete last group is filled up with empty batches, for which fairseq runs through
        the motions without gradient: else its replays would be regrouped.
        """
        batches = super().ordered_batches(epoch, fix_batches_to_gpus, shuffle)
        size = self._group(epoch)
        replayed = []
        for start in range(0, len(batches), size):
            group = list(batches[start : start + size])
            replayed += (group + [[]] * (size - len(group))) * self.replays
        updates = len(replayed) // size
        run = f"; {self.max_update} updates make {self.max_update / updates:.1f} passes"
        logger.info(
            f"{self.name}: {len(batches)} batches, each trained on {self.replays} times in a row: "
            f"epoch {epoch}, one pass over the data, is {updates} updates"
            f"{run if self.max_update else ''}"
        )
        return replayed

    def _group(self, epoch: int) -> int:
        return self.update_freq[min(epoch, len(self.update_freq)) - 1]


class Memory:
    """Perturbations that wait for the next replay of their batch, known by its sentence ids.

    What is remembered counts when the update is done: a skipped one moves no perturbation. A batch
    is forgotten after its last replay, and all are at the end of an epoch.
    """

    def __init__(self, replays: int) -> None:
        self.replays = replays
        self.replay = 0
        """Which one of its group, from 0, the next update is; skipped ones count."""
        self._epoch: int | None = None
        self._waiting: dict[_Key, tuple[int, Delta]] = {}
        self._moved: dict[_Key, Delta] = {}

    def recall(self, sample: dict[str, Any]) -> Delta | None:
        """The perturbation that was last remembered for this batch."""
        _, delta = self._waiting.get(_key(_ids(sample), self._moved), (0, {}))
        device = sample["target"].device
        return {side: d.to(device) for side, d in delta.items()} or None

    def remember(self, sample: dict[str, Any], delta: Delta) -> None:
        """Keep a perturbation for this batch's next replay, if this update counts."""
        key = _key(_ids(sample), self._moved)
        self._moved[key] = {side: d.detach() for side, d in delta.items()}

    def of(self, sample: dict[str, Any]) -> Remembered:
        """What one batch carries on."""
        return Remembered(self, sample)

    def begin_update(self) -> None:
        """Forget what an update that was broken off would have remembered."""
        self._moved.clear()

    def end_update(self, skipped: bool = False) -> None:
        """The batches that were remembered have been replayed; what moved stays, unless skipped."""
        self.replay = (self.replay + 1) % self.replays
        for key, delta in self._moved.items():
            played, before = self._waiting.pop(key, (0, {}))
            if played + 1 < self.replays:
                self._waiting[key] = (played + 1, before if skipped else delta)
        self._moved.clear()

    def begin_epoch(self, epoch: int) -> None:
        """Forget everything if this is another epoch: replays do not go on there."""
        if epoch != self._epoch:
            self._waiting.clear()
            self.replay = 0
        self._epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """All that is remembered, as plain containers of tensors on the CPU."""
        waiting = [
            (list(ids), played, {side: d.cpu() for side, d in delta.items()})
            for (ids, _), (played, delta) in self._waiting.items()
        ]
        return {"epoch": self._epoch, "replay": self.replay, "waiting": waiting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what `state_dict` gave, and nothing else."""
        self._epoch = state["epoch"]
        played = [times for _, times, _ in state["waiting"]]
        self.replay = state.get("replay", max(played, default=0))
        self._waiting = {}
        for ids, played, delta in state["waiting"]:
            self._waiting[_key(tuple(ids), self._waiting)] = (played, delta)


class Remembered:
    """`core.method.Memory` of one batch."""

    def __init__(self, memory: Memory, sample: dict[str, Any]) -> None:
        self._memory, self._sample = memory, sample

    def recall(self) -> Delta | None:
        """See there."""
        return self._memory.recall(self._sample)

    def remember(self, delta: Delta) -> None:
        """See there."""
        self._memory.remember(self._sample, delta)


_Key = tuple[tuple[int, ...], int]
"""A batch: its sentences' ids, and how many of the same ids come before it in an update.

Datasets of several language pairs number the sentences of each pair from 0, and those that sample
have a sentence more than once.
"""


def _key(ids: tuple[int, ...], before: Collection[_Key]) -> _Key:
    return ids, sum(known == ids for known, _ in before)


def _ids(sample: dict[str, Any]) -> tuple[int, ...]:
    ids: Tensor = sample["id"]
    return tuple(ids.tolist())
