"""What ``upsdrvctl shutdown`` does: cancel what is pending, then cut by the UPS's own options (voltronic.md section 12)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from qxfleet.errors import OrderError
from qxfleet.model.clock import Clock
from qxfleet.model.events import Link, LinkChange, Observation, OrderResult, Outcome
from qxfleet.model.options import UpsOptions
from qxfleet.session.session import Session
from qxfleet.transports.base import Transport

TRIES = 3
"""A cut that the UPS does not take is ordered again: the one order that is ever repeated, because hosts rely on it."""

TICK_S = 0.25


async def cut_power(session: Session) -> OrderResult:
    """Order the shutdown that the options ask for, to come back with the mains or to stay off; the last result.

    A cancel that fails is no failure: mostly nothing was pending. Raises OrderNotSupported before anything is sent where the
    dialect has no such orders.
    """
    cancel, cut = session.prepare("shutdown.stop", None), session.prepare("shutdown.default", None)
    for _ in range(TRIES):
        if (await session.perform(cancel)).outcome is Outcome.ACCEPTED:
            break
    for _ in range(TRIES):
        result = await session.perform(cut)
        if result.outcome is Outcome.ACCEPTED:
            break
    return result


async def cut_alone(options: UpsOptions, transport_for: Callable[[UpsOptions], Transport], within_s: float) -> OrderResult:
    """Cut the power of one UPS without an agent: open its port, waiting for whoever holds it, and tell it. Never raises for
    trouble on the way; settings of the device are left as they are."""
    options = replace(options, device_settings={})
    clock, link = Clock(), LinkChange(options.name, 0, 0.0, Link.DETECTING, "no contact")
    here = asyncio.Event()

    def report(seen: Observation) -> None:
        nonlocal link
        if isinstance(seen, LinkChange):
            link = seen
            if seen.link is Link.ONLINE:
                here.set()

    session = Session(options, transport_for(options), report, clock, pause=_short)
    tasks = [asyncio.create_task(session.run()), asyncio.create_task(_tick(session, clock))]
    try:
        async with asyncio.timeout(within_s):
            await here.wait()
        return await cut_power(session)
    except TimeoutError:
        return OrderResult(options.name, "shutdown.default", None, Outcome.NO_ANSWER, text=f"{link.reason}; nothing was sent")
    except OrderError as error:
        return OrderResult(options.name, "shutdown.default", None, Outcome.UNSUPPORTED, text=f"{error}; nothing was sent")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _tick(session: Session, clock: Clock) -> None:
    while True:
        session.wake(clock.monotonic())
        await asyncio.sleep(TICK_S)


async def _short(seconds: float) -> None:
    """A port that is held is tried again soon: the machine is about to lose its power."""
    await asyncio.sleep(min(seconds, 1.0))
