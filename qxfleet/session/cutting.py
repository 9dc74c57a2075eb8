"""The last thing before a host goes down: cancel what is pending, then have the UPS cut its load (voltronic.md section 12)."""

from __future__ import annotations

from qxfleet.model.events import OrderResult, Outcome
from qxfleet.session.session import Session

TRIES = 3
"""A cut that the UPS does not take is ordered again: the one order that is ever repeated, because hosts rely on it."""


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
