"""One UPS in a script: read it, watch it, give it orders, without agent, configuration or database.

::

    from qxfleet import connect

    with connect("/dev/ttyS0") as ups:                 # or: async with connect(...)
        print(ups.dialect, ups.read()["battery.charge"])

The same session runs underneath as in the agent: recognition, retries, reconnection, orders that are sent once and end with an
outcome.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, TypeVar

from qxfleet.errors import LinkLost, LinkTimeout
from qxfleet.model.clock import Clock
from qxfleet.model.events import Link, LinkChange, Observation, OrderResult
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.model.variables import value_text
from qxfleet.session.session import Session
from qxfleet.transports.address import transport_for

T = TypeVar("T")

TICK_S: Final = 0.05
PATIENCE_S: Final = 30.0
"""How long recognising a UPS, or a reading that was asked for, may take."""


class Values(Mapping[str, str]):
    """One reading as NUT names and writes it: ``values["battery.charge"]`` is ``"100"``. ``reading`` has the numbers."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._texts = reading.texts()

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"Values({self._texts!r})"

    def number(self, name: str) -> float:
        """A value as a number, in the unit of the variable list. Raises KeyError where it is not known or no number."""
        value = self.reading.values[name]
        if not isinstance(value, float):
            raise KeyError(name)
        return value


class AsyncUps:
    """A UPS that answers; made by ``async with connect(…)``. All methods raise LinkError while there is no contact.

    ``latest`` is the last reading, its age in it (``reading.mono_s``).
    """

    def __init__(self, options: UpsOptions, session: Session) -> None:
        self.port = options.port
        self.link: Link = Link.DETECTING
        self.reason = ""
        self._options = options
        self._session = session
        self._latest: Values | None = None
        self._number = 0
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    @property
    def dialect(self) -> str:
        """What it speaks."""
        return self._session.dialect.name if self._session.dialect else ""

    @property
    def latest(self) -> Values:
        """The last reading. Raises LinkLost before the first one."""
        if self._latest is None:
            raise LinkLost(self.port, self.reason or "nothing was read yet")
        return self._latest

    async def read(self) -> Values:
        """Ask now, and return what was said. Raises LinkLost where contact is lost, LinkTimeout where nothing came in time."""
        before = self._number
        self._session.hurry(asyncio.get_running_loop().time())
        return await self._next(before)

    async def watch(self) -> AsyncIterator[Values]:
        """Every reading as it comes, until contact is lost: then LinkLost. What comes while one is worked on is passed over."""
        while True:
            yield await self._next(self._number)

    def commands(self) -> tuple[str, ...]:
        """Names of the instant commands it offers."""
        return tuple(order.name for order in self._session.orders())

    def settings(self) -> dict[str, str]:
        """Its writable variables and how they stand."""
        infos = self._session.settings()
        return {info.name: "" if info.value is None else value_text(info.name, info.value) for info in infos}

    async def command(self, name: str, value: str | None = None) -> OrderResult:
        """Send an instant command once; its ``outcome`` says what became of it.

        Raises OrderNotSupported or OrderInvalid, and nothing was sent then.
        """
        self._check_open()
        return await self._session.perform(self._session.prepare(name, value))

    async def set(self, name: str, value: str) -> OrderResult:
        """Set a variable, and read it back where the device keeps it. Raises OrderNotSupported or OrderInvalid."""
        self._check_open()
        return await self._session.set(name, value)

    async def close(self) -> None:
        """Let go of the port; what is asked for afterwards, or waits still, raises LinkLost."""
        if not self._closed:
            self._closed = True
            self.link, self.reason = Link.LOST, "closed: the block that opened it was left"
            await self._tell()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- inside

    def _check_open(self) -> None:
        if self._closed:
            raise LinkLost(self.port, self.reason)

    async def _open(self) -> None:
        self._tasks = [asyncio.create_task(self._session.run()), asyncio.create_task(self._tick())]
        self._tasks[0].add_done_callback(self._ended)
        try:
            await self._next(0)
        except BaseException:
            await self.close()
            raise

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._session.wake(loop.time())
            await asyncio.sleep(TICK_S)

    async def _next(self, after: int) -> Values:
        """The first reading after so many."""
        self._check_open()
        try:
            async with asyncio.timeout(PATIENCE_S), self._changed:
                await self._changed.wait_for(lambda: self._number > after or self.link is Link.LOST)
        except TimeoutError:
            raise LinkTimeout(self.port, f"no reading within {PATIENCE_S:g} s") from None
        if self._number <= after:
            raise LinkLost(self.port, self.reason)
        return self.latest

    def heard(self, seen: Observation) -> None:
        """What the session reports."""
        if self._closed:
            return
        if isinstance(seen, Reading):
            self._latest = Values(seen)
            self._number += 1
        elif isinstance(seen, LinkChange):
            self.link, self.reason = seen.link, seen.reason
        else:
            return
        self._tasks.append(asyncio.create_task(self._tell()))
        self._tasks = [task for task in self._tasks if not task.done()]

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.link, self.reason = Link.LOST, str(error)
            self._tasks.append(asyncio.create_task(self._tell()))


class Ups:
    """The same for scripts without asyncio; made by ``with connect(…)``. The session lives in a thread of its own."""

    def __init__(self, ups: AsyncUps, loop: asyncio.AbstractEventLoop) -> None:
        self._ups = ups
        self._loop = loop

    @property
    def port(self) -> str:
        """Where it is."""
        return self._ups.port

    @property
    def dialect(self) -> str:
        """What it speaks."""
        return self._ups.dialect

    @property
    def link(self) -> Link:
        """How contact stands."""
        return self._ups.link

    @property
    def latest(self) -> Values:
        """The last reading."""
        return self._ups.latest

    def read(self) -> Values:
        """See :meth:`AsyncUps.read`."""
        return self._run(self._ups.read())

    def watch(self) -> Iterator[Values]:
        """See :meth:`AsyncUps.watch`."""
        number = self._ups._number
        while True:
            values = self._run(self._ups._next(number))
            number = self._ups._number
            yield values

    def commands(self) -> tuple[str, ...]:
        """Names of the instant commands it offers."""
        return self._run(_called(self._ups.commands))

    def settings(self) -> dict[str, str]:
        """Its writable variables and how they stand."""
        return self._run(_called(self._ups.settings))

    def command(self, name: str, value: str | None = None) -> OrderResult:
        """See :meth:`AsyncUps.command`."""
        return self._run(self._ups.command(name, value))

    def set(self, name: str, value: str) -> OrderResult:
        """See :meth:`AsyncUps.set`."""
        return self._run(self._ups.set(name, value))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _called(function: Any) -> Any:
    return function()


class connect:
    """A UPS for as long as a ``with`` or ``async with`` block lasts.

    ``port`` is a serial device, ``socket://host:port``, ``rfc2217://host:port``, ``usb:1-1.4``, ``auto``, or ``nut://host/name``
    (``upsd=UpsdAccess(…)`` for TLS and a user); ``dialect`` names one instead of finding out; ``usb`` holds the USB options of
    the configuration; ``options`` are further fields of :class:`~qxfleet.model.options.UpsOptions`, like ``poll_interval_s``,
    ``offdelay_s``, ``norating``. Entering waits for the
    first reading. Raises ValueError for a port that can't be, and LinkError where nothing answers or no dialect fits.
    """

    def __init__(
        self, port: str, *, dialect: str = "auto", cablepower: str = "normal", usb: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        self._options = UpsOptions("ups", port, dialect=dialect, cablepower=cablepower, usb=usb or {}, **options)
        self._transport = transport_for(
            port, cablepower=cablepower, usb=usb or {}, novendor=self._options.novendor, upsd=self._options.upsd
        )
        self._ups: AsyncUps | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def _entered(self) -> AsyncUps:
        session = Session(self._options, self._transport, lambda seen: ups.heard(seen), Clock())
        ups = self._ups = AsyncUps(self._options, session)
        await ups._open()
        return ups

    async def __aenter__(self) -> AsyncUps:
        return await self._entered()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ups is not None:
            await self._ups.close()

    def __enter__(self) -> Ups:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name=f"qxfleet {self._options.port}", daemon=True)
        self._thread.start()
        try:
            return Ups(asyncio.run_coroutine_threadsafe(self._entered(), loop).result(), loop)
        except BaseException:
            self._stop()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        if self._ups is not None:
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(self._ups.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        self._loop = self._thread = None
