"""SIGTERM and Ctrl-C: the running update is finished, a checkpoint written, the training left.

Workers of a distributed training hear of a signal at different times, and not all of them: they
agree on the update after which they stop through what they log, which fairseq sums up anyway.

An update that hangs is never finished. Most often it waits inside of torch for a worker that is
gone, where no handler of Python's is run: who asks a second time is answered by a thread, and
`--heartbeat-timeout` kills.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from types import FrameType
from typing import Any, NoReturn

import torch
from fairseq.models import distributed_fairseq_model
from torch.utils.data._utils import signal_handling

from fairseq_adv.trainer.hooks import Stop

_SAME = {signal.SIGINT: 2.0, signal.SIGTERM: 10.0}
"""Seconds within which a signal that follows another is the same request: launchers pass on what
all have heard, and only a person is in a hurry.
"""
_PATIENCE = 5.0
"""Seconds that the training has to take notice of a second request by itself."""
_PROMPT = 1.0
"""Seconds by which it may do so before a thread has heard of it. Less than any of `_SAME`."""


class Interruption:
    """What a training has heard of signals.

    `stop` is what came of it, when all workers know.
    """

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self._heard: signal.Signals | None = None
        self._at = -math.inf
        self._votes: Any = 0

    def listen(self) -> None:
        """Take notice of SIGTERM and SIGINT from now on."""
        if threading.current_thread() is threading.main_thread():
            for number in _SAME:
                signal.signal(number, self._hear)
            numbers, written = os.pipe()
            os.set_blocking(written, False)
            signal.set_wakeup_fd(written, warn_on_full_buffer=False)
            threading.Thread(target=self._overhear, args=(numbers,), daemon=True).start()

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
        again = self._heard is not None and now - self._at > _SAME[signal.Signals(number)]
        self._heard, self._at = signal.Signals(number), now
        if again:  # at once
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)

    def _overhear(self, numbers: int) -> None:
        """End the process when it is asked to for the second time and does not take notice.

        :param numbers: a file that the system writes the numbers of signals to, whatever the main
            thread does.
        """
        at = math.inf
        while received := os.read(numbers, 1):
            if received[0] not in _SAME:
                continue
            before, at = at, time.monotonic()
            if at - before <= _SAME[signal.Signals(received[0])]:
                continue
            time.sleep(_PATIENCE)
            if self._at < at - _PROMPT:
                _leave_hanging(signal.Signals(received[0]))


def _leave_hanging(heard: signal.Signals) -> NoReturn:
    # Not by the log: whoever hangs may hold its lock.
    said = f"fairseq_adv: {heard.name}: the update hangs: the training ends without a checkpoint\n"
    os.write(2, said.encode())
    os._exit(128 + heard)


def end_what_hangs() -> None:
    """Let `--heartbeat-timeout` end a training whose update hangs, and only that.

    fairseq sends SIGINT to its own process, which no handler of Python's hears of while the process
    waits for another worker inside of torch; and ours would wait for the end of the update. SIGKILL
    needs nobody to hear. Beside that, who ends such a training in a process that goes on waits for
    the rest of the timeout. Cause: `DistributedTimeoutWrapper`. Tests:
    test_an_update_that_hangs_ends_after_the_heartbeat_timeout, and those of two workers.
    """
    wrapper = distributed_fairseq_model.DistributedTimeoutWrapper

    class Ending(wrapper):  # type: ignore[misc, valid-type]
        def __init__(self, module: torch.nn.Module, timeout: int) -> None:
            super().__init__(module, timeout, signal=signal.SIGKILL)

        def stop_timeout(self) -> None:
            self._terminated = True
            if self._heartbeat is not None:
                self._heartbeat.set()
            super().stop_timeout()

    distributed_fairseq_model.DistributedTimeoutWrapper = Ending


def keep_loading_data() -> None:
    """Let the processes that load data outlive a signal to all processes of a training.

    Schedulers send SIGTERM to each of them, terminals Ctrl-C. A loader that died would tear down
    the training in the middle of an update. SIGTERM of the training itself still ends them.
    """
    signal_handling._set_worker_signal_handlers = _outlive_signals


_set_worker_signal_handlers = signal_handling._set_worker_signal_handlers


def _outlive_signals() -> None:
    _set_worker_signal_handlers()
    signal.set_wakeup_fd(-1)  # the training's, which would take what it hears for its own
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Only who waits for a signal learns who sent it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_if_the_parent_says_so, daemon=True).start()


def _end_if_the_parent_says_so() -> None:
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == os.getppid():
            os._exit(0)
