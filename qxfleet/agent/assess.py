"""What an observation means: (state, observation) → (state, events). A pure function.

The rules that keep it honest: a test is never an outage nor the reverse; lost contact is not an outage; a flapping line
makes one event that says how often it flapped; a shutdown bit that was set when contact began is not believed until it was
seen clear (quirks.md: "Never start a host shutdown on this bit alone"; engine.md section 13, item 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from qxfleet.model.electrical import GONE_BELOW, GOOD, UNKNOWN_NOMINAL_V, brown_out, nominal_input_v
from qxfleet.model.events import (
    Event,
    EventKind,
    IdentityLearned,
    Link,
    LinkChange,
    Observation,
    OrderResult,
    Outcome,
    Phase,
    Remark,
    Severity,
    Trouble,
)  # fmt: skip
from qxfleet.model.notice import Notice, alarm_text
from qxfleet.model.reading import Reading
from qxfleet.model.state import Condition, Counters, DeviceState
from qxfleet.model.status import REPLACE_BATTERY, SELFTEST_FAILED, SHUTDOWN_IMMINENT, Status
from qxfleet.model.variables import value_text

OB, OL, LB, CAL, FSD = int(Status.OB), int(Status.OL), int(Status.LB), int(Status.CAL), int(Status.FSD)
CHRG, DISCHRG, OVER, RB, ALARM = (
    int(Status.CHRG), int(Status.DISCHRG), int(Status.OVER), int(Status.RB), int(Status.ALARM),
)  # fmt: skip
TRIM, BOOST, BYPASS = int(Status.TRIM), int(Status.BOOST), int(Status.BYPASS)

REMEDY = "usb-"
"""What begins the name of a remark about a link that mended itself; its value is a count."""

LONGEST_TEST_S = 5940.0
"""No test that nobody announced is believed to last longer: 99 minutes are the most that can be ordered (megatec-family.md
section 10.2)."""

LOW_IN_TEST_S = 30.0
"""A test ends when the battery gets low (megatec-family.md section 10.5); one that nobody announced and that stays low for
longer is none."""

EARLY_LOW_S = 60.0
"""A battery that is low this soon after mains failed, or in a test, wants replacing."""

CHARGING_S = 12 * 3600.0
"""Longest time after a discharge for which CHRG is shown: the seeds' default charge time."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition: when it holds, how long before it counts (``raise_s``), how long gone before it is over (``clear_s``).

    ``holds`` is given (state before, reading) and returns True, False, or None where the reading can't tell.
    """

    name: str
    kind: EventKind
    severity: Severity
    begins: str
    ends: str
    holds: Callable[[DeviceState, Reading], bool | None]
    raise_s: float = 0.0
    clear_s: float = 10.0


def mains_gone(state: DeviceState, reading: Reading) -> bool:
    """Whether mains are gone, test or no test.

    In a test the on-battery bit alone says nothing, some units raise it themselves. It counts with an input voltage that is
    plainly no mains; where that can't tell, if it rose within the test; and always once the test has outlived its bound.
    """
    if not reading.status & OB:
        return False
    if not reading.status & CAL or _overdue(state, reading):
        return True
    before = state.reading
    on_line = before is not None and bool(before.status & OL)
    volts = reading.values.get("input.voltage")
    if isinstance(volts, float):
        nominal = reading.values.get("input.voltage.nominal")
        if isinstance(nominal, float) and nominal > 0:
            nominal = nominal_input_v(nominal, volts)
        else:
            nominal = before.values.get("input.voltage") if before is not None and on_line else None
        if volts < GONE_BELOW * (nominal if isinstance(nominal, float) and nominal > 0 else UNKNOWN_NOMINAL_V):
            return True
        low, high = GOOD
        if not isinstance(nominal, float) or low * nominal <= volts <= high * nominal:
            return False
    outage = state.conditions.get("on-battery")
    if outage is not None and outage.open:
        return True
    return on_line and before is not None and bool(before.status & CAL)


def _overdue(state: DeviceState, reading: Reading) -> bool:
    """Whether a test runs for longer than any test of this UPS can."""
    if state.test_until_s is not None:
        return reading.mono_s > state.test_until_s
    test, low = state.conditions.get("battery-test"), state.conditions.get("low-battery")
    if test is not None and reading.mono_s - test.since_s > LONGEST_TEST_S:
        return True
    return low is not None and low.pending_since_s is None and reading.mono_s - low.since_s > LOW_IN_TEST_S


def _line(state: DeviceState, reading: Reading) -> bool | None:
    return mains_gone(state, reading) if reading.status & (OB | OL) else None


def _low(state: DeviceState, reading: Reading) -> bool | None:
    return bool(reading.status & LB)


def _flag(flag: int) -> Callable[[DeviceState, Reading], bool | None]:
    return lambda state, reading: bool(reading.status & flag)


def _overload(state: DeviceState, reading: Reading) -> bool | None:
    if reading.status & OVER:
        return True
    load = reading.values.get("ups.load")
    if not isinstance(load, float):
        return None if "ups.load" in reading.missing else False
    was = state.conditions.get("overload")
    return load > 100 or (was is not None and was.open and load > 95)


def _failed(state: DeviceState, reading: Reading) -> bool | None:
    return SELFTEST_FAILED in reading.alarms


def _pending(state: DeviceState, reading: Reading) -> bool | None:
    return bool(reading.status & FSD) and (state.shutdown_bit_trusted or state.shutdown_ordered)


def _worn(state: DeviceState, reading: Reading) -> bool | None:
    """Low within a minute of mains failing, or in a test; kept until a discharge of over a minute goes without.

    A unit that says so itself also says when it is over.
    """
    if reading.status & RB:
        return True
    if state.reading is not None and state.reading.status & RB:
        return False
    was = state.conditions.get("replace-battery")
    already = was is not None and was.open
    for name in ("on-battery", "battery-test"):
        running = state.conditions.get(name)
        if running is None or not running.open or running.pending_since_s is not None:
            continue
        for_s = reading.mono_s - running.since_s
        if reading.status & LB:
            return already or for_s <= EARLY_LOW_S
        if for_s > EARLY_LOW_S:
            return False
    return already


def _conflict(state: DeviceState, reading: Reading) -> bool | None:
    return any(note.startswith("status conflict") for note in reading.notes)


def _brown_out(state: DeviceState, reading: Reading) -> bool | None:
    return False if reading.status & (OB | CAL) else brown_out(reading.values)


def _implausible(state: DeviceState, reading: Reading) -> bool | None:
    return any("implausible" in note or note == "bit.utility_fail unreadable" for note in reading.notes)


RULES: tuple[Rule, ...] = (
    Rule("on-battery", EventKind.STATUS, Severity.WARNING, "mains failed, running on battery", "mains are back", _line),
    Rule("low-battery", EventKind.STATUS, Severity.CRITICAL, "battery is low", "battery is no longer low", _low),
    Rule("shutdown-pending", EventKind.STATUS, Severity.CRITICAL, "the UPS is about to cut its load",
         "the shutdown is over", _pending, clear_s=3.0),
    Rule("overload", EventKind.WARNING, Severity.CRITICAL, "overloaded", "load is back in range", _overload, raise_s=3.0),
    Rule("bypass", EventKind.WARNING, Severity.WARNING, "on bypass, the load is not protected", "off bypass", _flag(BYPASS),
         raise_s=3.0),
    Rule("boost", EventKind.STATUS, Severity.INFO, "raising a low input voltage", "input voltage is no longer raised",
         _flag(BOOST), raise_s=3.0, clear_s=30.0),
    Rule("trim", EventKind.STATUS, Severity.INFO, "lowering a high input voltage", "input voltage is no longer lowered",
         _flag(TRIM), raise_s=3.0, clear_s=30.0),
    Rule("ups-failed", EventKind.WARNING, Severity.CRITICAL, "the UPS says it has failed", "the UPS no longer says it failed",
         _failed, raise_s=3.0),
    Rule("replace-battery", EventKind.WARNING, Severity.WARNING, "the battery wants replacing",
         "the battery held through a discharge", _worn, clear_s=0.0),
    Rule("status-conflict", EventKind.WARNING, Severity.WARNING, "the UPS contradicts itself", "the UPS agrees with itself again",
         _conflict, raise_s=0.2, clear_s=10.0),
    Rule("brown-out", EventKind.STATUS, Severity.WARNING, "input voltage is far too low, and the UPS stays on line",
         "input voltage is back in range", _brown_out, raise_s=3.0, clear_s=10.0),
    Rule("battery-test", EventKind.TEST, Severity.INFO, "battery test running", "battery test ended", _flag(CAL), clear_s=3.0),
    Rule("implausible-reading", EventKind.WARNING, Severity.NOTICE, "the UPS reports values that can't be true",
         "values are believable again", _implausible, clear_s=60.0),
    Rule("contact-lost", EventKind.LINK, Severity.WARNING, "contact lost", "in contact again", lambda state, reading: False),
)  # fmt: skip
"""In the order they are looked at. ``contact-lost`` begins without a reading, see :func:`_assess_link`."""


def _detail(rule: Rule, reading: Reading) -> str:
    """Figures that belong beside a condition's text."""
    names: tuple[str, ...]
    match rule.name:
        case "on-battery":
            names = ("input.voltage", "battery.voltage", "ups.load", "battery.charge")
        case "low-battery" | "replace-battery":
            names = ("battery.voltage", "battery.charge", "ups.load")
        case "overload":
            names = ("ups.load",)
        case "bypass" | "boost" | "trim" | "brown-out":
            names = ("input.voltage", "output.voltage")
        case "implausible-reading":
            return "; ".join(reading.notes)
        case "status-conflict":
            notes = (note for note in reading.notes if note.startswith("status conflict"))
            volts = reading.values.get("input.voltage")
            said = "; ".join(note.partition(": ")[2] for note in notes)
            return f"{said}; input.voltage {value_text('input.voltage', volts)}" if isinstance(volts, float) else said
        case _:
            return ""
    texts = (f"{name} {value_text(name, value)}" for name in names if isinstance(value := reading.values.get(name), float))
    return ", ".join(texts)


def _advance(rule: Rule, was: Condition | None, holds: bool | None, reading: Reading) -> tuple[Condition | None, Event | None]:
    """One condition, one reading further."""
    now_s, now_us = reading.mono_s, reading.wall_us
    if holds is None:
        return was, None
    if was is None:
        if not holds:
            return None, None
        was = Condition(rule.name, False, now_us, now_s)
    if not was.open:
        if not holds:
            return None, None
        if now_s - was.since_s < rule.raise_s:
            return was, None
        detail = _detail(rule, reading)
        begun = replace(was, open=True)
        text = f"{rule.begins} ({detail})" if detail else rule.begins
        return begun, Event(
            was.began_us, reading.device, rule.kind, rule.name, "begin", text, _severity(rule, reading), Phase.BEGIN
        )
    if holds:
        if was.pending_since_s is None:
            return was, None
        return replace(was, pending_since_s=None, flips=was.flips + 1), None
    if was.pending_since_s is None:
        was = replace(was, pending_since_s=now_s, pending_us=now_us)
    assert was.pending_since_s is not None
    if now_s - was.pending_since_s < rule.clear_s:
        return was, None
    lasted_s = was.pending_since_s - was.since_s
    text = f"{rule.ends} after {_span(lasted_s)}"
    if was.flips:
        text += f"; it came and went {was.flips} more time{'s' if was.flips > 1 else ''} meanwhile"
    return None, Event(was.pending_us, reading.device, rule.kind, rule.name, "end", text, Severity.INFO, Phase.END)


def _severity(rule: Rule, reading: Reading) -> Severity:
    if rule.name == "low-battery" and reading.status & OL:
        return Severity.WARNING
    return rule.severity


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


_INTERESTING = ~OL


def assess(old: DeviceState, seen: Observation | OrderResult) -> tuple[DeviceState, tuple[Event, ...]]:
    """The state after one observation, and the events it makes."""
    if isinstance(seen, Reading):
        return _assess_reading(old, seen)
    match seen:
        case LinkChange():
            return _assess_link(old, seen)
        case IdentityLearned():
            return replace(old, identity=seen.identity), ()
        case Trouble():
            return _assess_trouble(old, seen)
        case Remark():
            if seen.name.startswith(REMEDY):
                old = replace(old, remedies={**old.remedies, seen.name.removeprefix(REMEDY): int(seen.value)})
            return old, (
                Event(seen.wall_us, seen.device, seen.kind, seen.name, seen.value, seen.text, seen.severity),
            )
        case OrderResult():
            ordered = seen.name.startswith(("shutdown.", "load.off")) and seen.name != "shutdown.stop"
            sent = bool(seen.sent) and seen.outcome not in (Outcome.REJECTED, Outcome.UNSUPPORTED)
            return (replace(old, shutdown_ordered=True) if ordered and sent else old), ()


def _assess_reading(old: DeviceState, reading: Reading) -> tuple[DeviceState, tuple[Event, ...]]:
    events: tuple[Event, ...] = ()
    if old.test_until_s is not None and _test_over(old, reading):
        old = replace(old, test_until_s=None)
    if (
        reading.status == OL and not (old.conditions or reading.notes or reading.alarms or reading.notices)
        and old.shutdown_bit_trusted and old.charging_since_s is None
        and reading.values.get("ups.load", 0.0) <= 100 and not _glitch(old, reading) and not brown_out(reading.values)  # type: ignore[operator]
    ):  # fmt: skip
        return DeviceState(
            old.name, old.link, old.link_since_us, old.link_reason, old.identity, reading, OL, (), old.conditions,
            old.counters, True, old.shutdown_ordered, None, old.remedies, "", old.told, old.test_until_s,
        ), ()  # fmt: skip
    if not reading.status & FSD and not (old.shutdown_bit_trusted and not old.shutdown_ordered):
        old = replace(old, shutdown_bit_trusted=True, shutdown_ordered=False)
    conditions = dict(old.conditions)
    so_far = replace(old, conditions=conditions)  # a rule sees what those before it decided
    for rule in RULES:
        was = conditions.get(rule.name)
        now, event = _advance(rule, was, rule.holds(so_far, reading), reading)
        if event is not None:
            events = (*events, event)
        if now is not None:
            conditions[rule.name] = now
        elif was is not None:
            del conditions[rule.name]
    for event in _notice(conditions, reading):
        events = (*events, event)
    if glitch := _glitch(old, reading):
        events = (*events, glitch)
    status, alarms, charging_since_s = _published(old, reading, conditions)
    line = alarm_text(alarms, reading.notices) if alarms or reading.notices else ""
    alarms = (*alarms, *(notice.text for notice in reading.notices if notice.alarm))
    return replace(
        old, reading=reading, status=status, alarms=alarms, conditions=conditions, charging_since_s=charging_since_s,
        alarm=line,
    ), events


def _test_over(old: DeviceState, reading: Reading) -> bool:
    """Whether the test that was announced ended, or did not come within its time."""
    if reading.status & CAL or old.test_until_s is None:
        return False
    return reading.mono_s > old.test_until_s or (old.reading is not None and bool(old.reading.status & CAL))


_BY_LEVEL = {1: Severity.CRITICAL, 2: Severity.WARNING}


def _notice(conditions: dict[str, Condition], reading: Reading) -> list[Event]:
    """Open a condition for each notice that is new, close it after two readings without; ``conditions`` is brought up to date.

    A reading that lacks what a notice comes from says nothing about it (voltronic.md section 6). One that tells what another
    condition tells anyway is written down quietly.
    """
    events: list[Event] = []
    present: dict[str, Notice] = {notice.code: notice for notice in reading.notices}
    for code, notice in present.items():
        was = conditions.get(code)
        if was is not None:
            if was.pending_since_s is not None:
                conditions[code] = replace(was, pending_since_s=None, flips=was.flips + 1)
            continue
        conditions[code] = Condition(
            code, True, reading.wall_us, reading.mono_s, source=notice.source, text=notice.text
        )
        severity = Severity.INFO if notice.linked else _BY_LEVEL.get(notice.level, Severity.NOTICE)
        text = notice.text if notice.number is None else f"{notice.text} (warning {notice.number})"
        if notice.linked:
            text += f", see {notice.linked}"
        events.append(
            Event(reading.wall_us, reading.device, EventKind.WARNING, code, "begin", text, severity, Phase.BEGIN)
        )
    for code, was in list(conditions.items()):
        if not was.source or code in present:
            continue
        if not was.source.startswith("bit.") and was.source not in reading.values and not _gone(was.source, reading):
            continue
        if was.pending_since_s is None:
            conditions[code] = replace(was, pending_since_s=reading.mono_s, pending_us=reading.wall_us)
            continue
        text = f"{was.text}: over after {_span(was.pending_since_s - was.since_s)}"
        if was.flips:
            text += f"; it came and went {was.flips} more time{'s' if was.flips > 1 else ''} meanwhile"
        events.append(
            Event(was.pending_us, reading.device, EventKind.WARNING, code, "end", text, Severity.INFO, Phase.END)
        )
        del conditions[code]
    return events


def _gone(source: str, reading: Reading) -> bool:
    """Whether a value is absent because there is nothing to tell: a fault's code, once there is no fault."""
    return source == "qx.fault.code" and not any(notice.code in ("fault.present", "mode.fault") for notice in reading.notices)


def _published(
    old: DeviceState, reading: Reading, conditions: dict[str, Condition]
) -> tuple[int, tuple[str, ...], float | None]:
    """The status and alarms that faces show: what the frame says, and what only its history can add or hold back."""
    status, alarms = reading.status, list(reading.alarms)
    if status & FSD and not (old.shutdown_bit_trusted or old.shutdown_ordered):
        status &= ~FSD
        alarms = [alarm for alarm in alarms if alarm != SHUTDOWN_IMMINENT]
    if (worn := conditions.get("replace-battery")) is not None and worn.open:
        status |= RB
        if REPLACE_BATTERY not in alarms:
            alarms.append(REPLACE_BATTERY)
    if (heavy := conditions.get("overload")) is not None and heavy.open:
        status |= OVER
    charging_since_s = old.charging_since_s
    if status & OB:
        status |= DISCHRG
        charging_since_s = math.inf
    elif status & OL:
        if status & CAL:
            charging_since_s = math.inf
        elif charging_since_s is not None:
            charging_since_s = min(charging_since_s, reading.mono_s)
            charge = reading.values.get("battery.charge")
            full = isinstance(charge, float) and round(charge) >= 100
            if full or reading.mono_s - charging_since_s > CHARGING_S:
                charging_since_s = None
            else:
                status |= CHRG
    told = alarms or any(notice.alarm for notice in reading.notices)
    status = status | ALARM if told else status & ~ALARM
    return status, tuple(alarms), charging_since_s


def _glitch(old: DeviceState, reading: Reading) -> Event | None:
    """The worst input since the last poll, where it is news (megatec-family.md section 13, decision 8).

    Many units latch a constant there: a value that did not change, and zero, say nothing.
    """
    values, last = reading.values, old.reading
    worst, now = values.get("input.voltage.fault"), values.get("input.voltage")
    if not isinstance(worst, float) or not isinstance(now, float) or not now or -0.05 * now <= worst - now <= 0.05 * now:
        return None
    if not worst or last is None or reading.status & (OB | CAL) or last.status & OB:
        return None
    before = last.values.get("input.voltage.fault")
    if before is None or before == worst:
        return None
    return Event(
        reading.wall_us, reading.device, EventKind.STATUS, "input-glitch", f"{worst:g}",
        f"input voltage touched {worst:g} V since the last poll, is {now:g} V now",
    )  # fmt: skip


def _assess_link(old: DeviceState, change: LinkChange) -> tuple[DeviceState, tuple[Event, ...]]:
    """Contact lost, stale or found; says what the UPS was doing when it was last heard, and changes nothing about that.

    A loss is over when contact has lasted: a loose cable is one story. Readings see to that, by the rule ``contact-lost``.
    """
    events: list[Event] = []
    at = (change.wall_us, old.name, EventKind.LINK)
    bad = (Link.STALE, Link.LOST)
    counters, conditions = old.counters, old.conditions
    loss = conditions.get("contact-lost")
    if change.link is Link.ONLINE:
        if loss is None:
            events.append(Event(*at, "contact", "online", f"in contact, {change.reason}"))
        else:
            loss = replace(loss, pending_since_s=change.mono_s, pending_us=change.wall_us)
    elif change.link in bad:
        if loss is None:
            last = " while ON BATTERY" if old.status & OB else ""
            severity = Severity.CRITICAL if last else Severity.WARNING
            events.append(
                Event(*at, "contact-lost", "begin", f"contact lost{last}: {change.reason}", severity, Phase.BEGIN)
            )
            loss = Condition("contact-lost", True, change.wall_us, change.mono_s)
        elif loss.pending_since_s is not None:
            loss = replace(loss, pending_since_s=None, flips=loss.flips + 1)
        elif change.link is Link.LOST and old.link is Link.STALE:
            events.append(Event(*at, "contact-lost", "lost", f"link given up: {change.reason}", Severity.WARNING))
        if old.link not in bad:
            counters = replace(counters, links_lost=counters.links_lost + 1)
    if loss is not None:
        conditions = {**conditions, "contact-lost": loss}
    since_us = old.link_since_us if change.link in bad and old.link in bad else change.wall_us
    trusted = old.shutdown_bit_trusted and change.link is not Link.LOST
    return replace(
        old, link=change.link, link_since_us=since_us, link_reason=change.reason, counters=counters, conditions=conditions,
        shutdown_bit_trusted=trusted,
    ), tuple(events)  # fmt: skip


def _assess_trouble(old: DeviceState, trouble: Trouble) -> tuple[DeviceState, tuple[Event, ...]]:
    """A reply that could not be used: counted; one that can't be true also opens a condition that the next readings close."""
    counters: Counters = old.counters
    events: tuple[Event, ...] = ()
    conditions = old.conditions
    match trouble.reason.partition(":")[0]:
        case "ReplyTimeout":
            counters = replace(counters, silent=counters.silent + 1)
        case "ReplyRefused":
            counters = replace(counters, refused=counters.refused + 1)
        case "ReplyImplausible":
            counters = replace(counters, implausible=counters.implausible + 1)
            if "implausible-reading" not in conditions:
                opened = Condition("implausible-reading", True, trouble.wall_us, trouble.mono_s)
                conditions = {**conditions, "implausible-reading": opened}
                what = f"{trouble.reason.partition(': ')[2]}: {trouble.frame!r}" if trouble.frame else trouble.reason
                events = (
                    Event(trouble.wall_us, old.name, EventKind.WARNING, "implausible-reading", "begin",
                          f"the UPS reports values that can't be true ({what})", Severity.NOTICE, Phase.BEGIN),
                )  # fmt: skip
        case _:
            counters = replace(counters, malformed=counters.malformed + 1)
    return replace(old, counters=counters, conditions=conditions), events
