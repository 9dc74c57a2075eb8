"""Every instant command and setting, ordered of Debian's nutdrv_qx by upscmd and upsrw, and of ours: the same on the wire.

The UPSes acknowledge whatever they understand and carry none of it out, so that both sides can go through a long list of
orders, each ended as soon as it was acknowledged. ``ACK`` is the word that every dialect but mecer may use, ``(ACK`` mecer's
(megatec-family.md section 10.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from qxfleet.dialects.registry import DIALECTS, dialect_named
from qxfleet.dialects.spec import AnswerStyle, Dialect, Tier
from qxfleet.errors import OrderInvalid, OrderNotSupported
from qxfleet.model.clock import Clock
from qxfleet.model.events import Link, LinkChange, Observation, OrderResult, Outcome
from qxfleet.model.options import UpsOptions
from qxfleet.session.session import Session
from qxfleet.testing.farm import Farm
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps
from qxfleet.testing.unit import Fault
from qxfleet.transports.serial_port import SerialTransport
from tests.compat.incumbent import Incumbent

Step = tuple[str, str | None]
"""An instant command with its value, or a writable variable with its new value."""

OFF, ON = "ups.delay.shutdown", "ups.delay.start"

DELAYS = (
    (30, 180), (12, 180), (54, 180), (60, 180), (600, 180), (30, 0), (600, 0), (30, 60), (30, 599940),
    (59, 59), (95, 200), (119, 119), (17, 3599),
)  # fmt: skip
"""Seconds until off and until on: the matrix of megatec-family.md section 10.4, and what is truncated (section 10.3)."""

TEST_SECONDS = (
    None, "60", "61", "119", "120", "600", "5940", "12", "17", "59", "59.5", "90.5", "11", "0", "-60", "5941", "100000", "ten",
)  # fmt: skip
"""Values inside and outside the ranges of section 10.3, of a P98 and of the others, and what is no number."""

FRACTIONS = {("test.battery.start", "59.5"): (b"T.9\r",), ("test.battery.start", "90.5"): (b"T01\r",)}
"""The one difference: of a value with a fraction the incumbent's mecer sends nothing (it wants digits only, section 10.3),
its other dialects cut the fraction off. Ours cuts it off everywhere; a P98 alone is tested for less than a minute."""

LAST_S = 1.0
"""How long after the last step something may still come."""


def steps(dialect: Dialect) -> list[Step]:
    """Every command of the dialect, both shutdowns with each delay, the test with each kind of value."""
    listed: list[Step] = []
    for off, on in DELAYS:
        listed += [(OFF, str(off)), (ON, str(on)), ("shutdown.return", None), ("shutdown.stayoff", None)]
    listed += [(OFF, bad) for bad in ("11", "601", "-30", "0")] + [(ON, bad) for bad in ("599941", "-1")]
    listed += [("shutdown.return", None)]
    if dialect.order("test.battery.start"):
        listed += [("test.battery.start", seconds) for seconds in TEST_SECONDS]
    listed += [(order.name, None) for order in dialect.orders]
    return listed


@dataclass(frozen=True)
class Done:
    """What came of one step: whether it was taken, and what went over the wire that was no query."""

    step: Step
    taken: bool
    sent: tuple[bytes, ...]


@dataclass(frozen=True)
class Side:
    """One side on one UPS: its commands and writable variables, and every step in turn."""

    commands: frozenset[str]
    settings: frozenset[str]
    done: tuple[Done, ...]


UPSES: dict[str, tuple[str, str | None]] = {
    **{dialect.name.replace("/", "-"): (dialect.name, "PI98") for dialect in DIALECTS if dialect.source == "megatec-family.md"},
    "mecer-nak": ("mecer", None),
}
"""Name → dialect, and the answer to QPI where the dialect asks it. Voltronic units: test_voltronic_orders.py."""

OTHERS = ("voltronic-qs", "voltronic-qs-hex", "bestups", "hunnox", "ablerex")
"""Of the dialects beyond, those that 2.8.0 speaks. Its masterguard starts on no unit (extra-dialects.md section 2.2)."""


def _ups(name: str) -> SimulatedUps:
    kind, protocol = UPSES.get(name, (name, None))
    dialect = dialect_named(kind)
    assert dialect is not None
    accepted = None if dialect.answer is AnswerStyle.WORD else b"ACK\r"
    machine = Machine(Ratings(), noise=0)
    ups = SimulatedUps(dialect, name=name, machine=machine, accepted=accepted, protocol=protocol)
    ups.set_fault(Fault.ACK_BUT_IGNORE)
    return ups


@pytest.fixture(scope="module")
def ordered(incumbent_installed: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Side, Side]]:
    """Every step on every UPS: theirs, ours."""
    return asyncio.run(_order_all(tmp_path_factory.mktemp("farm")))


@pytest.fixture(scope="module")
def others(incumbent_installed: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Side, Side]]:
    """The same for the dialects beyond the family."""
    return asyncio.run(_order_all(tmp_path_factory.mktemp("others"), OTHERS))


async def _order_all(folder: Path, names: tuple[str, ...] = tuple(UPSES)) -> dict[str, tuple[Side, Side]]:
    async with Farm(folder, [_ups(name) for name in names]) as farm:
        farm.speed = 0
        ours = await asyncio.gather(*(_ours(farm, name) for name in names))
        sections = {
            name: {"port": farm.link(name), "protocol": UPSES.get(name, (name, None))[0], "pollinterval": 2} for name in names
        }
        async with Incumbent(sections) as incumbent:
            both = zip(names, ours, strict=True)
            theirs = await asyncio.gather(*(_theirs(farm, name, incumbent, side.done) for name, side in both))
    return dict(zip(names, zip(theirs, ours, strict=True), strict=True))


async def _ours(farm: Farm, name: str) -> Side:
    online = asyncio.Event()

    def heard(seen: Observation) -> None:
        if isinstance(seen, LinkChange) and seen.link is Link.ONLINE:
            online.set()

    port = str(farm.link(name))
    session = Session(UpsOptions(name, port, dialect=UPSES.get(name, (name, None))[0]), SerialTransport(port), heard, Clock())

    under_way: set[asyncio.Task[OrderResult]] = set()

    async def do(what: str, value: str | None) -> bool:
        """Until it is sent: that later readings confirm nothing is not waited for, the next order ends it."""
        try:
            if what.startswith("ups.delay."):
                return (await session.set(what, value or "")).outcome is Outcome.ACCEPTED
            prepared = session.prepare(what, value)
        except (OrderInvalid, OrderNotSupported):
            return False
        performing = asyncio.create_task(session.perform(prepared))
        under_way.add(performing)
        await _heard(farm, name, {prepared.request})
        return True

    running = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(20):
            await online.wait()
            await _heard(farm, name, {query.command for query in farm.upses[name].dialect.tier(Tier.ONCE) if not query.when})
            while not session.settled:
                await asyncio.sleep(0.005)
        commands, settings = (frozenset(each.name for each in listed()) for listed in (session.orders, session.settings))
        done = [await _step(farm, name, do, step) for step in steps(farm.upses[name].dialect)]
        return Side(commands, settings, tuple(done))
    finally:
        running.cancel()
        await asyncio.wait([running, *under_way])


async def _heard(farm: Farm, name: str, requests: set[bytes]) -> None:
    """Wait until a UPS was sent each of these."""
    while not requests <= {request for _, request in farm.logs[name]}:
        await asyncio.sleep(0.005)


async def _theirs(farm: Farm, name: str, incumbent: Incumbent, ours: tuple[Done, ...]) -> Side:
    """After each step wait until as much was sent as by us; whatever is more turns up in the step after it."""

    async def do(what: str, value: str | None) -> bool:
        if what.startswith("ups.delay."):
            return await incumbent.set(name, what, value or "")
        return await incumbent.command(name, what, value)

    commands, settings = await incumbent.commands(name), await incumbent.settings(name)
    done = [await _step(farm, name, do, each.step, len(each.sent)) for each in ours[:-1]]
    done.append(await _step(farm, name, do, ours[-1].step, len(ours[-1].sent), LAST_S))
    return Side(commands, settings, tuple(done))


async def _step(
    farm: Farm, name: str, do: Callable[[str, str | None], Awaitable[bool]], step: Step, expected: int = 0, longer_s: float = 0
) -> Done:
    ups, log = farm.upses[name], farm.logs[name]
    queries = {query.command for query in ups.dialect.queries} | {b"SS?\r", b"\r"}

    def sent() -> tuple[bytes, ...]:
        return tuple(request for _, request in log if request not in queries)

    log.clear()
    taken = await do(*step)
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + 5
    while len(sent()) < expected and loop.time() < give_up_s:
        await asyncio.sleep(0.01)
    await asyncio.sleep(longer_s)
    return Done(step, taken, sent())


@pytest.mark.parametrize("name", UPSES)
def test_the_same_bytes_for_every_order(ordered: dict[str, tuple[Side, Side]], name: str) -> None:
    theirs, ours = ordered[name]
    differ = {
        mine.step: (their.sent, mine.sent)
        for their, mine in zip(theirs.done, ours.done, strict=True)
        if their.sent != mine.sent
    }
    here = {step: sent for step, sent in FRACTIONS.items() if name == "mecer" or step[1] == "90.5"}
    assert differ == ({step: ((), sent) for step, sent in here.items()} if UPSES[name][0] == "mecer" else {})


@pytest.mark.parametrize("name", UPSES)
def test_the_same_commands_and_settings(ordered: dict[str, tuple[Side, Side]], name: str) -> None:
    theirs, ours = ordered[name]
    assert theirs.commands | {"shutdown.default"} == ours.commands
    assert theirs.settings == ours.settings == {OFF, ON}


@pytest.mark.parametrize("name", UPSES)
def test_the_same_settings_are_refused(ordered: dict[str, tuple[Side, Side]], name: str) -> None:
    """Out of the ranges of section 10.3, and nothing else. Of its commands the incumbent takes all and tells nobody."""
    theirs, ours = ordered[name]
    refused = [(OFF, "11"), (OFF, "601"), (OFF, "-30"), (OFF, "0"), (ON, "599941"), (ON, "-1")]
    for side in (theirs, ours):
        assert [done.step for done in side.done if not done.taken and done.step[0] in (OFF, ON)] == refused
    untold = {done.step for done in theirs.done if done.taken} - {done.step for done in ours.done if done.taken}
    assert {what for what, _ in untold} == {"test.battery.start"}
    assert all(not done.sent for done in theirs.done if done.step in untold)


@pytest.mark.parametrize("name", OTHERS)
def test_the_same_bytes_from_the_dialects_beyond(others: dict[str, tuple[Side, Side]], name: str) -> None:
    theirs, ours = others[name]
    differ = {
        mine.step: (their.sent, mine.sent)
        for their, mine in zip(theirs.done, ours.done, strict=True)
        if their.sent != mine.sent
    }
    assert differ == {}
    assert theirs.commands | {"shutdown.default"} == ours.commands


def test_the_bytes_are_those_of_the_protocol(ordered: dict[str, tuple[Side, Side]]) -> None:
    """The matrix of megatec-family.md section 10.4 and the strings of section 10.1: both could be wrong alike."""
    for name, (_, ours) in ordered.items():
        sent = [b" ".join(done.sent).decode().replace("\r", "") for done in ours.done]
        returns = [text for done, text in zip(ours.done, sent, strict=True) if done.step[0] == "shutdown.return"]
        assert returns[:9] == [
            "S.5R0003", "S.2R0003", "S.9R0003", "S01R0003", "S10R0003", "S.5", "S10", "S.5R0001", "S.5R9999",
        ], name  # fmt: skip
        plain = {done.step[0]: text for done, text in zip(ours.done, sent, strict=True) if done.step[1] is None}
        assert plain == {
            "beeper.toggle": "Q", "load.off": "S00R0000", "load.on": "C", "shutdown.stop": "C", "shutdown.return": "S.2R0059",
            "shutdown.stayoff": "S.2R0000", "test.battery.start": "T10", "test.battery.start.quick": "T",
            "test.battery.start.deep": "TL", "test.battery.stop": "CT",
        }, name  # fmt: skip


def test_only_a_p98_is_tested_for_less_than_a_minute(ordered: dict[str, tuple[Side, Side]]) -> None:
    for name, (_, ours) in ordered.items():
        tests = {done.step[1]: done.sent for done in ours.done if done.step[0] == "test.battery.start"}
        short = [tests[seconds] for seconds in ("12", "17", "59")]
        assert short == ([(b"T.2\r",), (b"T.2\r",), (b"T.9\r",)] if name == "mecer" else [(), (), ()]), name
