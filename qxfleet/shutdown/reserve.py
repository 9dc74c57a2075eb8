"""What stopping a load takes, set aside at the start: descriptors and threads that nobody else can have used up by then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

EACH = 8
"""Descriptors of one act while it begins: a pipe, the null device, what tells whether the program could be executed, its end."""

ACTS = 40
"""Acts that begin at the same time on what was set aside; one more takes its chance with the rest of the process."""

SHARE = 4
"""At most one in so many of all descriptors is set aside, where few may be open."""

THREADS = 8
"""Webhooks that can hang at the same time without needing a further thread."""


class Reserve:
    """Descriptors and threads for acts. Empty until :meth:`fill`; the owner calls :meth:`close`."""

    def __init__(self) -> None:
        self._spare: list[int] = []
        self._whole = 0
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._threads = self._busy = self._kept = 0
        self._counting = threading.Lock()

    @property
    def descriptors(self) -> int:
        """How many are set aside now."""
        return len(self._spare)

    def fill(self) -> None:
        """Set everything aside. Raises OSError where not even that can be had."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._whole = min(EACH * ACTS, soft // SHARE)
        while len(self._spare) < self._whole:
            self._spare.append(os.eventfd(0))
        self._kept = THREADS
        while self._threads < self._kept:
            self._start_thread()

    def close(self) -> None:
        """Give all of it back; threads end behind what they are doing."""
        self._whole = self._kept = 0
        while self._spare:
            os.close(self._spare.pop())
        for _ in range(self._threads):
            self._work.put(None)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Room for the descriptors of one act; set aside again, as far as they are free, when it is over."""
        for _ in range(min(EACH, len(self._spare))):
            os.close(self._spare.pop())
        try:
            yield
        finally:
            self._refill()

    def _refill(self) -> None:
        try:
            while len(self._spare) < self._whole:
                self._spare.append(os.eventfd(0))
        except OSError:
            return  # the next act that ends tries again

    # -- threads

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run what blocks on a thread; it is left alone where the caller goes away. Raises RuntimeError if there is no thread."""
        with self._counting:
            if self._busy >= self._threads:
                self._start_thread()
            self._busy += 1
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._work.put((work, future))
        return await future

    def _start_thread(self) -> None:
        threading.Thread(target=self._serve, name="webhook", daemon=True).start()
        self._threads += 1

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            work, future = item
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:  # noqa: BLE001 - handed to who waits for it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            del item, work, future, result, error
            with self._counting:
                self._busy -= 1
                if self._threads > self._kept:
                    self._threads -= 1
                    return
        with self._counting:
            self._threads -= 1


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
