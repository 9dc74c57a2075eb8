"""How far devices have drifted from a profile, and the loop that sets what differs: one device, one setting at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from qxfleet.agent.fleet import Fleet
from qxfleet.config.profile import Profile
from qxfleet.errors import OrderError, OrderNotSupported
from qxfleet.model.events import Link, OrderResult, Outcome, SettingInfo
from qxfleet.model.reading import Value
from qxfleet.model.variables import value_text

SETTLE_S = 30.0
"""Longest wait for a device to tell what it can do: after contact, and after a setting that opens others."""

LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Drift:
    """One setting of one UPS that is not as a profile wants it, as text.

    ``stands`` None: not known. ``why_not``: why it can't be set now, empty if it can.
    """

    ups: str
    name: str
    wanted: str
    stands: str | None
    why_not: str = ""

    @property
    def settable(self) -> bool:
        """Whether nothing is known that speaks against setting it."""
        return not self.why_not


@dataclass(frozen=True, slots=True)
class Step:
    """One setting that was to be changed, and what became of it."""

    drift: Drift
    result: OrderResult

    @property
    def refused(self) -> bool:
        """Whether anything but acceptance came out."""
        return self.result.outcome is not Outcome.ACCEPTED


def drift(
    ups: str, wanted: Mapping[str, str], settings: Sequence[SettingInfo], objection: Callable[[str, str], str]
) -> tuple[Drift, ...]:
    """What of ``wanted`` (variable → value) a device with these settings does not have, in the order of ``wanted``.

    ``objection`` says why a variable can't be set to a value now; empty if it can. Pure, if that is.
    """
    stands = {setting.name: setting.value for setting in settings}
    return tuple(
        Drift(ups, name, value, None if stood is None else value_text(name, stood), objection(name, value))
        for name, value in wanted.items()
        if not _same(value, stood := stands.get(name))
    )


def _same(wanted: str, stands: Value | None) -> bool:
    if stands is None or isinstance(stands, str):
        return stands is not None and wanted.lower() == stands.lower()
    return float(wanted) == stands


def drift_of(fleet: Fleet, ups: str, wanted: Mapping[str, str]) -> tuple[Drift, ...]:
    """How one device stands now; of one that can't be asked nothing is known."""
    if (absent := _absence(fleet, ups)) is not None:
        return tuple(Drift(ups, name, value, None, absent) for name, value in wanted.items())
    session = fleet.session(ups)

    def objection(name: str, value: str) -> str:
        try:
            session.prepare_setting(name, value)
        except OrderError as error:
            return str(error)
        return ""

    return drift(ups, wanted, session.settings(), objection)


def _absence(fleet: Fleet, ups: str) -> str | None:
    """Why a device's settings are not known; None if they are."""
    state = fleet.snapshot().get(ups)
    if state is None:
        return "no longer configured"
    if state.link is not Link.ONLINE:
        return f"no contact ({state.link.value}{': ' if state.link_reason else ''}{state.link_reason})"
    return None if fleet.session(ups).settled else "it is still being asked what it can do: try again in a moment"


def check(fleet: Fleet, profile: Profile) -> tuple[Drift, ...]:
    """What differs from a profile on all its devices; sends nothing."""
    return tuple(each for ups in profile.upses for each in drift_of(fleet, ups, profile.settings))


async def applying(
    fleet: Fleet, profile: Profile, *, actor: str, go_on: bool, stop: asyncio.Event
) -> AsyncIterator[Step]:
    """Set what differs, device after device, and tell each setting once it has ended.

    Ends behind the first refusal unless ``go_on``, and before the next setting once ``stop`` is set. Of one device, what can be
    set comes before what can't yet, which another setting may open.
    """
    for ups in profile.upses:
        pending: Mapping[str, str] = profile.settings
        while not stop.is_set():
            await _settled(fleet, ups, stop)
            rows = drift_of(fleet, ups, pending)
            if not rows or stop.is_set():
                break
            row = next((each for each in rows if each.settable), rows[0])
            pending = {each.name: each.wanted for each in rows if each is not row}
            step = Step(row, await _set(fleet, row, actor))
            yield step
            if step.refused and not go_on:
                return


async def _set(fleet: Fleet, row: Drift, actor: str) -> OrderResult:
    """Through the one door; a device that can't be asked now is not asked."""
    if (absent := _absence(fleet, row.ups)) is not None:
        return OrderResult(row.ups, row.name, row.wanted, Outcome.NO_ANSWER, text=f"{absent}; nothing was sent")
    try:
        return await fleet.set(row.ups, row.name, row.wanted, actor=actor)
    except OrderNotSupported as error:
        return OrderResult(row.ups, row.name, row.wanted, Outcome.UNSUPPORTED, text=f"{error}; nothing was sent")


async def _settled(fleet: Fleet, ups: str, stop: asyncio.Event) -> None:
    """Wait while a device is recognised and asked what it can do, but not for ever."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + SETTLE_S
    while loop.time() < give_up_s and not stop.is_set():
        state = fleet.snapshot().get(ups)
        if state is None or state.link not in (Link.DETECTING, Link.ONLINE) or fleet.session(ups).settled:
            return
        await asyncio.sleep(LOOK_S)
