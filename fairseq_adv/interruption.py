"""SIGTERM and Ctrl-C: the running update is finished, a checkpoint written, the training left.

Workers of a distributed training hear of a signal at different times, and not all of them: they
agree on the update after which they stop through what they log, which fairseq sums up anyway.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from torch.utils.data._utils import signal_handling

from fairseq_adv.trainer_hooks import Stop

_SAME = 2.0
"""Seconds within which a second Ctrl-C is the first: launchers pass on what all have heard."""


class Interruption:
    """What a training has heard of signals.

    `stop` is what came of it, when all workers know.
    """

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self._heard: signal.Signals | None = None
        self._at = 0.0
        self._votes: Any = 0

    def listen(self) -> None:
        """Take notice of SIGTERM and SIGINT from now on."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._hear)
            signal.signal(signal.SIGINT, self._hear)

    @property
    def vote(self) -> int:
        """What this worker adds to its log: 1 if it wants to stop."""
        return int(self._heard is not None)

    def count(self, votes: Any) -> None:
        """Stop if any worker wants to.

        :param votes: their sum over all workers. If it is on a GPU, that of the update before is
            looked at: it is there without waiting.
        """
        if torch.is_tensor(votes) and votes.is_cuda:
            votes, self._votes = self._votes, votes
        if votes > 0 and self.stop is None:
            heard = self._heard or signal.SIGTERM  # what another worker heard ends this one too
            self.stop = Stop(f"{heard.name}: the training ends here", 128 + heard)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self._heard and now - self._at > _SAME:
            raise KeyboardInterrupt  # asked twice: at once
        self._heard, self._at = signal.Signals(number), now


def keep_loading_data() -> None:
    """Let the processes that load data outlive a signal to all processes of a training.

    Schedulers send SIGTERM to each of them, terminals Ctrl-C. A loader that died would tear down
    the training in the middle of an update. SIGTERM of the training itself still ends them.
    """
    signal_handling._set_worker_signal_handlers = _outlive_signals


_set_worker_signal_handlers = signal_handling._set_worker_signal_handlers


def _outlive_signals() -> None:
    _set_worker_signal_handlers()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Only who waits for a signal learns who sent it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_if_the_parent_says_so, daemon=True).start()


def _end_if_the_parent_says_so() -> None:
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == os.getppid():
            os._exit(0)
