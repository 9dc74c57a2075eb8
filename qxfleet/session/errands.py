"""What a device is told to do: orders and settings, each sent once and ended with an outcome, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from qxfleet.dialects.spec import DeviceSetting, Dialect, Order
from qxfleet.errors import (
    LinkError,
    OrderInvalid,
    OrderNotSupported,
    ReplyError,
    ReplyRefused,
    ReplyTimeout,
)  # fmt: skip
from qxfleet.model.clock import Clock
from qxfleet.model.events import Link, Observation, OrderResult, Outcome, Severity
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Identity, Value
from qxfleet.model.wire import Ask
from qxfleet.session import orders
from qxfleet.session.plans import read
from qxfleet.session.readout import Readout
from qxfleet.session.recognition import Recognition
from qxfleet.session.settings import Change, capabilities, prepare_change
from qxfleet.transports.base import Transport

CONFIRM_S = 5.0
"""How long later readings may confirm an order; status bits show within two polls (megatec-family.md section 10.6)."""

READ_BACK_S = 1.0
"""Pause before a setting that reads as before is read a second time."""


@dataclass(slots=True)
class Job:
    """An order or a change that waits for its turn, and who waits for its end."""

    prepared: orders.Prepared | Change
    done: asyncio.Future[OrderResult]


class Errands(Recognition):
    """Carries out orders and settings in their turn, those of the configuration included."""

    __slots__ = (
        "_capable", "_doubted", "_flying", "_jobs", "_lost", "_pause", "_reset", "_steady_until_s", "_urgent_until_s", "_waiter",
        "_wished", "_wishes", "due_s",
    )  # fmt: skip

    def __init__(
        self, options: UpsOptions, transport: Transport, report: Callable[[Observation], None], clock: Clock,
        identity: Identity | None, pause: Callable[[float], Awaitable[None]],
    ) -> None:  # fmt: skip
        super().__init__(options, transport, report, clock, identity)
        self._pause = pause
        self._jobs: deque[Job] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._flying = False
        self._steady_until_s = -math.inf
        self.due_s = math.inf
        """When the next poll is to begin, on the monotonic clock."""
        self._urgent_until_s = -math.inf
        self._lost: LinkError | None = None
        self._wishes: deque[str] = deque()
        self._wished = False
        self._reset = False
        self._capable = ""
        self._doubted: set[str] = set()

    def urgent(self, until_s: float) -> None:
        """Keep the urgent pace until then, whatever the status says."""
        self._urgent_until_s = max(self._urgent_until_s, until_s)

    def _kick(self) -> None:
        """Wake the coroutine that owns the device, if it sleeps and no poll is on its way without it."""
        if self._waiter is not None and not self._waiter.done() and not self._flying:
            self._steady_until_s = -math.inf
            self._waiter.set_result(None)

    # -- orders

    async def _queue(self, prepared: orders.Prepared | Change, name: str) -> OrderResult:
        if self._link in (Link.LOST, Link.DETECTING):
            return OrderResult(
                self.options.name, name, prepared.value, Outcome.NO_ANSWER,
                text=f"no contact ({self._link.value}): nothing was sent",
            )  # fmt: skip
        job = Job(prepared, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._kick()
        return await job.done

    async def _carry_out(self, job: Job) -> None:
        """Send one order once, and end it with an outcome whatever happens to the link meanwhile."""
        prepared, readout = job.prepared, self._readout
        assert readout is not None
        if isinstance(prepared, Change):
            await self._carry_change(job, prepared, readout)
            return
        request = prepared.request
        outcome: Outcome | None = None
        reply: str | None = None
        text = "contact was lost before its effect could be seen"
        try:
            before = self._signs()
            for number, step in enumerate(prepared.first, 1):
                request = b"".join(prepared.first[:number])
                outcome, frame = await self._send_order(step, readout.dialect)
                if outcome is not Outcome.ACCEPTED:
                    reply = None if frame is None else frame.decode("latin-1")
                    outcome = outcome or Outcome.NO_ANSWER
                    text = f"the device did not take step {number} of {len(prepared.first) + 1}: nothing else was sent"
                    return
            request, outcome = b"".join((*prepared.first, prepared.request)), None
            outcome, frame = await self._send_order(prepared.request, readout.dialect)
            reply = None if frame is None else frame.decode("latin-1")
            text = ""
            if outcome is None:
                text = "contact was lost before its effect could be seen"
                outcome, text = await self._watch(prepared.order, before)
            elif outcome is Outcome.ACCEPTED and prepared.order.effects:
                seen, text = await self._watch(prepared.order, before)
                text = text if seen is Outcome.ACCEPTED else f"acknowledged; {text}"
        finally:
            self._doubt(prepared.order, outcome, text)
            self._finish(job, OrderResult(
                self.options.name, prepared.order.name, prepared.value,
                outcome or orders.without_evidence(readout.dialect), reply, request.decode("latin-1"), text,
            ))  # fmt: skip
        if outcome is Outcome.ACCEPTED and self._agenda is not None:
            self._agenda.renew()
        now_s = self._clock.monotonic()
        self.urgent(now_s + CONFIRM_S)
        self.due_s = min(self.due_s, now_s + self.options.urgent_interval_s)

    def _doubt(self, order: Order, outcome: Outcome | None, text: str) -> None:
        """Where an order was sent and no reading showed it, readings can't show that its undoing has nothing to do either."""
        if order.undo is not None and outcome not in (Outcome.REJECTED, Outcome.UNSUPPORTED):
            (self._doubted.discard if text.startswith("seen in") else self._doubted.add)(order.undo)

    async def _send_order(self, request: bytes, dialect: Dialect) -> tuple[Outcome | None, bytes | None]:
        """What the device's own word says of an order: an outcome, or None where only readings can tell; and the word."""
        try:
            frame = await self.transport.exchange(Ask(request))
        except ReplyTimeout as silence:
            return orders.judge(dialect, request, silence.frame or None), silence.frame or None
        except ReplyRefused as refusal:
            return Outcome.REJECTED, refusal.frame or None
        except ReplyError as error:
            await self.transport.drain()
            return None, error.frame or None
        if self._is_status(frame):
            return None, None  # an answer to an earlier question says nothing about the order
        return orders.judge(dialect, request, frame), frame

    def _is_status(self, frame: bytes) -> bool:
        for query, _ in self._quick:
            if query.replies[0].lines is not None:
                continue  # such a link never hands on the answer to another question
            with contextlib.suppress(ReplyError):
                return bool(read(query, frame))
        return False

    def _signs(self) -> dict[str, Value | bool]:
        """What readings can show of an order's effect."""
        assert self._readout is not None
        return {**(self._last.values if self._last else {}), **self._readout.known}

    async def _watch(self, order: Order, before: dict[str, Value | bool]) -> tuple[Outcome | None, str]:
        """Poll until a reading shows the order's effect; orders that came meanwhile wait."""
        if not order.effects:
            return None, "no reading can show its effect"
        began_s = self._clock.monotonic()
        while self._clock.monotonic() - began_s < CONFIRM_S:
            reading = await self._poll()
            if reading is not None:
                now = self._signs()
                shown = next((effect for effect in order.effects if orders.seen(effect, before, now)), None)
                if shown is not None:
                    return Outcome.ACCEPTED, f"seen in {shown.name}"
                if order.name not in self._doubted and (stands := orders.confirmed(order, before, now)) is not None:
                    return Outcome.ACCEPTED, f"{stands.name} was so before and is so still"
            if self._lost is not None:
                return None, "contact was lost before its effect could be seen"
            if self._jobs:
                return None, "the next order came before its effect could be seen"
            await self._pause(0.5)
        if (effect := orders.stood(order, before)) is not None:
            return None, f"{effect.name} was already so before: nothing can confirm it"
        return None, f"no effect seen within {CONFIRM_S:.0f} s"

    def _finish(self, job: Job, result: OrderResult) -> None:
        if not job.done.done():
            job.done.set_result(result)

    def _drop_jobs(self, why: str) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            self._finish(
                job, OrderResult(
                    self.options.name, _name(job.prepared), job.prepared.value, Outcome.NO_ANSWER,
                    text=f"{why}: nothing was sent",
                ),
            )  # fmt: skip

    # -- settings

    async def _carry_change(self, job: Job, change: Change, readout: Readout) -> None:
        """Send a setting once, read it back, and end it with what the device then says."""
        assert isinstance(change.setting, DeviceSetting) and self._agenda is not None
        outcome: Outcome | None = None
        reply: str | None = None
        text = "contact was lost before it could be read back"
        try:
            outcome, frame = await self._send_order(change.request, readout.dialect)
            reply = None if frame is None else frame.decode("latin-1")
            outcome, text = await self._read_back(change, outcome)
        finally:
            self._finish(job, OrderResult(
                self.options.name, change.name, change.value, outcome or orders.without_evidence(readout.dialect), reply,
                change.request.decode("latin-1"), text,
            ))  # fmt: skip
        if not self._wishes:
            self._agenda.renew()

    async def _read_back(self, change: Change, word: Outcome | None) -> tuple[Outcome | None, str]:
        """What the device's word and its own reading of the setting mean together."""
        assert isinstance(change.setting, DeviceSetting) and self._readout is not None
        query = self._readout.dialect.query(change.setting.read_back) if change.setting.read_back else None
        if query is None:
            return word, change.note
        for attempt in (1, 2):
            await self._ask_more(query)
            stands = self._readout.known.get(change.name)
            if stands == change.wanted or word in (Outcome.REJECTED, Outcome.UNSUPPORTED):
                break
            if attempt == 1:
                await self._pause(READ_BACK_S)
        if stands == change.wanted:
            return Outcome.ACCEPTED, f"reads {stands}" + (f"; {change.note}" if change.note else "")
        if word is Outcome.ACCEPTED:
            return Outcome.UNCONFIRMED, f"acknowledged, but the device still says {stands}"
        return word, f"the device says {stands}"

    # -- what the configuration asks for

    def _wanted(self, dialect: Dialect) -> list[str]:
        """Options asked for by the configuration, in the order of the table: the reset first, because it undoes others."""
        asked = self.options.device_settings
        known = [setting.option or setting.name for setting in dialect.device_settings]
        for name in asked:
            if dialect.device_setting(name) is None:
                self._remark(name, "unsupported", f"{name}: the dialect {dialect.name} has no such setting", Severity.WARNING)
        return [name for setting, option in zip(dialect.device_settings, known, strict=True)
                for name in asked if name in (setting.name, option)]  # fmt: skip

    async def _grant(self) -> None:
        """Apply the next setting the configuration asks for, where the device stands otherwise; then tell what it can do."""
        assert self._readout is not None and self._agenda is not None
        if self._wishes:
            name = self._wishes.popleft()
            await self._grant_one(name, self.options.device_settings[name])
            if not self._wishes:
                self._agenda.renew()
            return
        self._wished = True
        dialect = self._readout.dialect
        text = capabilities(dialect, self._readout.known) if dialect.device_settings else ""
        if text != self._capable:
            self._capable = text
            self._remark("capabilities", "", text)

    async def _grant_one(self, name: str, value: str) -> None:
        assert self._readout is not None and self._agenda is not None
        setting = self._readout.dialect.device_setting(name)
        once = setting is not None and setting.read_back is None
        if once and self._reset:
            return
        try:
            change = prepare_change(self._readout.dialect, name, value, self._readout.known)
        except (OrderNotSupported, OrderInvalid) as error:
            known = isinstance(error, OrderInvalid)
            self._remark(name, "rejected" if known else "unsupported", f"{error}; nothing was sent", Severity.WARNING)
            return
        if not change.request:
            return
        job = Job(change, asyncio.get_running_loop().create_future())
        await self._carry_out(job)
        result = job.done.result()
        if once:
            self._reset = True
            self._agenda.renew()
        self._remark(
            change.name, result.outcome.value,
            f"the configuration asks for {change.value}: sent {result.sent!r}, reply {result.reply!r}, {result.text}",
            Severity.INFO if result.outcome is Outcome.ACCEPTED else Severity.WARNING,
        )  # fmt: skip


OWN_DELAY_S = 60.0
"""How much longer than wanted a delay may be that can't be set."""


def delayed(readout: Readout, variable: str, seconds: float) -> tuple[float, bytes]:
    """A delay for one order: what it will be, and what sets it before where the device keeps it and has another.

    Of a device that lists its settings, and has none for it, the delay must be known and must do. Raises OrderNotSupported or
    OrderInvalid.
    """
    try:
        change = prepare_change(readout.dialect, variable, f"{seconds:g}", readout.known)
    except OrderNotSupported:
        own = readout.shown(variable)
        if readout.dialect.listing is None:
            raise
        if variable == "ups.delay.start" or (isinstance(own, float) and seconds <= own <= seconds + OWN_DELAY_S):
            return own if isinstance(own, float) else seconds, b""
        stands = f"is {own:g} s" if isinstance(own, float) else "is not known"
        raise OrderNotSupported(
            f"its {variable} can't be set and {stands}, {seconds:g} s are wanted: want what it has, or write what it does as "
            f"override.{variable}"
        ) from None
    return float(change.wanted), change.request


def _name(prepared: orders.Prepared | Change) -> str:
    return prepared.name if isinstance(prepared, Change) else prepared.order.name
