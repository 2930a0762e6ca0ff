"""Map a function over lines in several processes, in order, with bounded memory."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from types import TracebackType
from typing import Self

from data_prep.support.errors import DataPrepError

# A chunk is a fraction of a second of work. Where lines are very long the second limit ends it.
_CHUNK = 5000  # lines
_CHARACTERS = 1_000_000

LineFunction = Callable[[list[str]], list[str]]


class LineMapper:
    """A pool of processes, started when there is work enough for two.

    Use it as a context manager; ``map`` may be called many times, one after the other.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: LineFunction, lines: Iterable[str]) -> Iterator[str]:
        """Yield what ``function`` makes of each of ``lines``, in order.

        ``function`` maps a list of lines to as many lines, each on its own, and can be pickled. At
        most two chunks per worker are in memory. Raises DataPrepError if a process is killed.
        """
        chunks = _chunks(lines)
        first = list(islice(chunks, 2))
        if self._workers == 1 or len(first) < 2:
            for chunk in chain(first, chunks):
                yield from function(chunk)
            return
        if self._pool is None:
            # spawn: a fork of a process with threads (tqdm starts one) may deadlock.
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_follow_parent,
            )
        pending: deque[Future[list[str]]] = deque()
        try:
            for chunk in chain(first, chunks):
                pending.append(self._pool.submit(function, chunk))
                if len(pending) == 2 * self._workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        except BrokenProcessPool:
            raise DataPrepError(
                "a worker process was killed, as the system does when memory runs out;"
                " the same command goes on from the last finished stage, with fewer --workers if so"
            ) from None


def cores() -> int:
    """Return how many this process may use, where the system can tell; else all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _follow_parent() -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the parent; end when it ends.

    Without the second, the workers of a killed parent would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    characters = 0
    for line in lines:
        chunk.append(line)
        characters += len(line)
        if len(chunk) == _CHUNK or characters >= _CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
