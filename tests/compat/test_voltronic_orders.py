"""Every command and setting of voltronic units, ordered of Debian's nutdrv_qx and of ours: the same bytes on the wire.

The units acknowledge whatever they understand and carry none of it out, so that every step finds them as they were made.
Where the two sides differ, voltronic.md calls it a defect of the incumbent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.errors import OrderInvalid, OrderNotSupported
from qxfleet.model.clock import Clock
from qxfleet.model.events import Observation, OrderResult, Remark
from qxfleet.model.options import UpsOptions
from qxfleet.session.session import Session
from qxfleet.testing.farm import Farm
from qxfleet.testing.machine import Machine
from qxfleet.testing.unit import Fault
from qxfleet.testing.voltronic.models import model
from qxfleet.testing.voltronic.ups import VoltronicUps
from qxfleet.transports.serial_port import SerialTransport
from tests.compat.incumbent import Incumbent

PROTOCOLS = ("P00", "P01", "P02", "P03", "P09", "P10", "P31", "P99")

Step = tuple[str, str | None]
"""An instant command with its value, or a writable variable with its new value."""

Sent = tuple[bytes, ...]

OFF, ON = "ups.delay.shutdown", "ups.delay.start"

DELAYS = (
    (30, 180), (12, 180), (17, 180), (59, 180), (60, 180), (119, 180), (120, 180), (5940, 180), (30, 0), (30, 59), (30, 60),
    (30, 599940), (5940, 0),
)  # fmt: skip
"""Seconds until off and until on: voltronic.md section 11 and the vectors."""

TEST_SECONDS = (None, "12", "17", "59", "60", "119", "600", "5940", "11", "0", "-60", "5941", "ten", "59.5")

COMMANDS = (
    "load.off", "load.on", "shutdown.return", "shutdown.stayoff", "shutdown.stop", "test.battery.start.quick",
    "test.battery.start.deep", "test.battery.stop", "beeper.toggle", "beeper.disable", "beeper.enable",
    "bypass.start", "bypass.stop",
    *(f"outlet.{n}.load.{state}" for n in range(1, 5) for state in ("off", "on")),
)  # fmt: skip

VALUES: Mapping[str, Sequence[str]] = {
    OFF: ("13", "59", "61", "119", "11", "5941", "12", "5940", "30"),
    ON: ("179", "599940", "599941", "-1", "0", "180"),
    "battery.packs": ("1", "2", "99", "0", "100", "2.5"),
    "battery.voltage.low": ("20", "21", "24", "19", "25", "28", "29", "20.6"),
    **dict.fromkeys([f"outlet.{n}.delay.shutdown" for n in range(1, 5)], ("600", "0", "59940", "59941", "59", "119", "-60")),
    "input.transfer.high": ("236", "237", "240", "241", "254", "255", "240.7", "122", "123", "124", "125", "132", "133"),
    "input.transfer.low": ("224", "223", "219", "218", "206", "205", "210.4", "118", "117", "115", "108", "107"),
    "input.frequency.high": (
        "51.9", "52", "52.9", "53", "53.5", "54", "54.9", "55", "60", "60.9", "61.9", "62", "62.9", "63.5", "64.5", "70", "70.1",
    ),
    "input.frequency.low": (
        "39.9", "40", "46", "46.5", "47", "47.9", "48", "48.5", "49", "50", "55.9", "56", "56.5", "57", "57.9", "58", "58.5",
    ),
    "battery.type": ("Li", "li", "Flooded", "NiMH", "AGM", "agm"),
    **dict.fromkeys(
        ("ups.start.auto", "battery.protection", "battery.energysave", "ups.start.battery", "outlet.0.switchable"),
        ("yes", "no", "maybe"),
    ),
}  # fmt: skip
"""Every writable variable with what it stands at, values at the ends of its ranges, beyond them, and not to be written."""


def steps(protocol: str) -> list[Step]:
    """All delays and all times of a test for one unit; each command for all."""
    listed: list[Step] = []
    for off, on in DELAYS if protocol == "P01" else DELAYS[:1]:
        listed += [(OFF, str(off)), (ON, str(on)), ("shutdown.return", None), ("shutdown.stayoff", None)]
    listed += [("test.battery.start", seconds) for seconds in (TEST_SECONDS if protocol == "P01" else TEST_SECONDS[:2])]
    listed += [(command, None) for command in COMMANDS]
    return listed + [(name, value) for name, values in VALUES.items() for value in values]


# -- what is known to differ -----------------------------------------------------------------------------------------

Differences = dict[Step, tuple[Sent, Sent]]
"""Step → what the incumbent sends and what we do."""

EVERYWHERE: Differences = {
    ("battery.packs", "2.5"): ((b"BATGN02\r",), ()),
    ("battery.voltage.low", "20.6"): ((b"W0E21\r",), ()),
    ("battery.voltage.low", "20"): ((b"W0E20\r",), ()),
}
"""It rounds after its check (section 9.2), and takes texts for values: 20 is not the 20.0 that stands already."""

STANDS_50: Differences = {
    ("input.frequency.high", "53"): ((b"FREH53.0\r",), ()),
    ("input.frequency.low", "47"): ((b"FREL47.0\r",), ()),
}
STANDS_60: Differences = {("input.frequency.low", "57"): ((b"FREL57.0\r",), ())}
"""Values that stand already, as another text."""

GROUP_B_50: Differences = {
    **EVERYWHERE, **STANDS_50,
    ("input.transfer.low", "210.4"): ((b"HEL210\r",), ()),
    ("input.frequency.high", "54.9"): ((b"FREH54.9\r",), ()),
    ("input.frequency.low", "48.5"): ((b"FREL48.5\r",), ()),
}  # fmt: skip
"""It checks without the fraction and sends with it (section 9.2, decision 12), or rounds it away."""

DIFFERENT: dict[str, Differences] = {
    "P00": EVERYWHERE,
    "P01": {
        **EVERYWHERE, **STANDS_50,
        ("test.battery.start", "59.5"): ((), (b"T.9\r",)),  # it wants digits only (section 11); ours cuts as it does elsewhere
        ("input.transfer.high", "240.7"): ((b"HEH241\r",), ()),
        ("input.transfer.low", "210.4"): ((b"HEL210\r",), ()),
        ("input.frequency.high", "60.9"): ((b"FREH60.9\r",), ()),
        ("input.frequency.low", "47.9"): ((b"FREL47.9\r",), ()),
    },
    "P02": GROUP_B_50,
    "P03": GROUP_B_50,
    "P09": {
        **EVERYWHERE, **STANDS_60,
        ("input.frequency.high", "70.1"): ((b"FREH70.1\r",), ()),
        ("input.frequency.low", "57.9"): ((b"FREL57.9\r",), ()),
    },
    "P10": GROUP_B_50,
    "P31": {**EVERYWHERE, ("battery.type", "li"): ((), (b"PBT00\r",))},  # case is ignored (section 9); its upsd does not know
    "P99": {
        **EVERYWHERE, **STANDS_60,
        ("input.frequency.high", "64.5"): ((b"FREH64.5\r",), ()),
        ("input.frequency.low", "58.5"): ((b"FREL58.5\r",), ()),
    },
}  # fmt: skip

ECO_LIMITS = ("input.transfer.high", "input.transfer.low", "input.frequency.high", "input.frequency.low")

SWITCHES = (
    "bypass_alarm", "battery_alarm", "bypass_when_off", "alarm_control", "converter_mode", "eco_mode",
    "battery_open_status_check", "bypass_forbidding", "site_fault_detection", "advanced_eco_mode", "constant_phase_angle",
    "limited_runtime_on_battery",
)  # fmt: skip

OPTIONS_ONLY = {
    *SWITCHES, "max_bypass_volt", "min_bypass_volt", "max_bypass_freq", "min_bypass_freq", "battery.number", "output_phase_angle",
    "work_range_type", "reset_to_default",
}  # fmt: skip
"""What the incumbent sets at its start only, from its configuration (section 10)."""


@dataclass(frozen=True)
class Done:
    """What went over the wire in one step that was no query."""

    step: Step
    sent: Sent


@dataclass(frozen=True)
class Side:
    """One side on one unit: its commands and writable variables, and every step in turn."""

    commands: frozenset[str]
    settings: frozenset[str]
    done: tuple[Done, ...]


def _unit(protocol: str, name: str = "") -> VoltronicUps:
    dialect = dialect_named("voltronic")
    assert dialect is not None
    product = model(protocol)
    return VoltronicUps(dialect, product, name=name or protocol, machine=Machine(product.ratings, noise=0))


@pytest.fixture(scope="module")
def ordered(incumbent_installed: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Side, Side]]:
    """Every step on every unit: theirs, ours."""
    return asyncio.run(_order_all(tmp_path_factory.mktemp("farm")))


async def _order_all(folder: Path) -> dict[str, tuple[Side, Side]]:
    async with Farm(folder, [_unit(protocol) for protocol in PROTOCOLS]) as farm:
        farm.speed = 0
        for ups in farm.upses.values():
            ups.set_fault(Fault.ACK_BUT_IGNORE)
        ours = await asyncio.gather(*(_ours(farm, protocol) for protocol in PROTOCOLS))
        sections = {name: {"port": farm.link(name), "protocol": "voltronic", "pollinterval": 2} for name in PROTOCOLS}
        async with Incumbent(sections) as incumbent:
            both = zip(PROTOCOLS, ours, strict=True)
            theirs = await asyncio.gather(*(_theirs(farm, name, incumbent, side.done) for name, side in both))
    return dict(zip(PROTOCOLS, zip(theirs, ours, strict=True), strict=True))


@asynccontextmanager
async def _session(farm: Farm, name: str, **settings: str) -> AsyncIterator[Session]:
    """Ours, as soon as it has told what the unit can do."""
    told = asyncio.Event()

    def heard(seen: Observation) -> None:
        if isinstance(seen, Remark) and seen.name == "capabilities":
            told.set()

    port = str(farm.link(name))
    options = UpsOptions(name, port, dialect="voltronic", device_settings=settings)
    session = Session(options, SerialTransport(port), heard, Clock(), pause=_shortly)
    running = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(20):
            await told.wait()
        yield session
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _shortly(seconds: float) -> None:
    """Nothing that a session waits for will come here."""
    await asyncio.sleep(min(seconds, 0.01))


async def _ours(farm: Farm, name: str) -> Side:
    """Each step until it is sent: the next one ends the wait for its effect."""
    under_way: set[asyncio.Task[OrderResult]] = set()
    log = farm.logs[name]

    async def do(what: str, value: str | None) -> None:
        try:
            if what in VALUES:
                change = session.prepare_setting(what, value or "")
                request, act = change.request, session.apply(change)
            else:
                prepared = session.prepare(what, value)
                request, act = prepared.request, session.perform(prepared)
        except (OrderInvalid, OrderNotSupported):
            return
        acting = asyncio.create_task(act)
        under_way.add(acting)
        while not acting.done() and request not in (sent for _, sent in log):
            await asyncio.sleep(0.005)

    async with _session(farm, name) as session:
        commands, settings = (frozenset(each.name for each in listed()) for listed in (session.orders, session.settings))
        done = [await _step(farm, name, do, step) for step in steps(name)]
    await asyncio.gather(*under_way)
    return Side(commands, settings, tuple(done))


async def _theirs(farm: Farm, name: str, incumbent: Incumbent, ours: tuple[Done, ...]) -> Side:
    """After each step wait until as much was sent as is expected; whatever is more turns up in the step after it."""

    async def do(what: str, value: str | None) -> None:
        if what in VALUES:
            await incumbent.set(name, what, value or "")
        else:
            await incumbent.command(name, what, value)

    commands, settings = await incumbent.commands(name), await incumbent.settings(name)
    expected = [DIFFERENT[name].get(done.step, (done.sent, ()))[0] for done in ours]
    done = [await _step(farm, name, do, each.step, requests) for each, requests in zip(ours, expected, strict=True)]
    return Side(commands, settings, tuple(done))


async def _step(farm: Farm, name: str, do: Callable[[str, str | None], Awaitable[None]], step: Step, expected: Sent = ()) -> Done:
    ups, log = farm.upses[name], farm.logs[name]
    queries = {query.command for query in ups.dialect.queries}
    log.clear()
    await do(*step)
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + 5
    while loop.time() < give_up_s and not {*expected} <= {request for _, request in log}:
        await asyncio.sleep(0.01)
    return Done(step, tuple(request for _, request in log if request not in queries))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_same_bytes_for_every_order(ordered: dict[str, tuple[Side, Side]], name: str) -> None:
    theirs, ours = ordered[name]
    differ = {
        mine.step: (their.sent, mine.sent)
        for their, mine in zip(theirs.done, ours.done, strict=True)
        if their.sent != mine.sent
    }
    assert differ == DIFFERENT[name]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_same_commands_and_settings(ordered: dict[str, tuple[Side, Side]], name: str) -> None:
    theirs, ours = ordered[name]
    assert theirs.commands | {"shutdown.default"} == ours.commands
    assert theirs.settings - ours.settings == ({*ECO_LIMITS} if name == "P31" else set()), "without known limits it sends nothing"
    assert ours.settings - theirs.settings <= OPTIONS_ONLY


# -- options of the configuration ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What a configuration asks of a unit, and what has to be sent for it; ``theirs`` where the incumbent sends other bytes.

    ``standby``: the unit is switched off. ``accepted``: the incumbent starts with it.
    """

    protocol: str
    options: Mapping[str, str]
    sent: frozenset[bytes]
    theirs: frozenset[bytes] | None = None
    standby: bool = False


def _asked(protocol: str, sent: str = "", /, theirs: str | None = None, standby: bool = False, **options: str) -> Asked:
    """Requests as words."""
    ours, others = (frozenset(f"{word}\r".encode() for word in text.split()) for text in (sent, theirs or ""))
    return Asked(protocol, options, ours, others if theirs is not None else None, standby)


STANDING = {"bypass_alarm": "enabled", "battery_alarm": "enabled", "alarm_control": "enabled"}
"""Of a P02; all its other switches are disabled."""

ASKED: dict[str, Asked] = {
    "all switched": _asked(
        "P02", "PDP PDB PEO PDA PEV PEE PED PEF PEL PEN PEQ PEW",
        **{name: "disabled" if name in STANDING else "enabled" for name in SWITCHES},
    ),
    "all as they stand": _asked("P02", **{name: STANDING.get(name, "disabled") for name in SWITCHES}),
    "not capable": _asked("P00", **{name: "enabled" for name in SWITCHES if name not in ("alarm_control", "battery_alarm")}
                          | {"battery_open_status_check": "disabled"}),
    "no such value": _asked("P02", bypass_alarm="on", battery_number="10", max_bypass_volt="300", output_phase_angle="90"),
    "bypass limits": _asked(
        "P01", "PHV250 PLV180 PGF55.0 PSF45.5", max_bypass_volt="250", min_bypass_volt="180", max_bypass_freq="55",
        min_bypass_freq="45.5",
    ),
    "bypass limits of a P99": _asked(
        "P99", "PHV132 PLV050 PGF64.0 PSF56.0", max_bypass_volt="132", min_bypass_volt="50", max_bypass_freq="64",
        min_bypass_freq="56",
    ),
    "bypass limits of a P10": _asked(
        "P10", "PHV276 PLV110 PGF51.0 PSF49.0", max_bypass_volt="276", min_bypass_volt="110", max_bypass_freq="51",
        min_bypass_freq="49",
    ),
    "bypass limits of a P09": _asked("P09", "PHV140 PLV060", max_bypass_volt="140", min_bypass_volt="60"),
    "bypass limits as they stand": _asked("P01", max_bypass_volt="264", min_bypass_volt="170"),
    "out of bypass limits": _asked(
        "P01", max_bypass_volt="265", min_bypass_volt="169", max_bypass_freq="50", min_bypass_freq="50",
    ),
    "no bypass limits": _asked("P31", max_bypass_volt="250", min_bypass_freq="45"),
    "batteries": _asked("P01", "BATN4", battery_number="4"),
    "batteries as they stand": _asked("P01", battery_number="2"),
    "angle 120": _asked("P03", "PPD120", "PPD001", output_phase_angle="120"),  # the place in the list, not the angle
    "angle 180": _asked("P03", "PPD180", "PPD002", output_phase_angle="180"),
    "angle 240": _asked("P10", "PPD240", "PPD003", output_phase_angle="240"),
    "appliance": _asked("P31", "PGR00", work_range_type="Appliance"),
    "range of another": _asked("P01", work_range_type="Appliance"),
    "reset in standby": _asked("P02", "PF", standby=True, reset_to_default="yes"),
    "reset on line": _asked("P02", reset_to_default="yes"),
    "reset, then set": _asked("P03", "PF PEE", standby=True, reset_to_default="yes", eco_mode="enabled"),
}  # fmt: skip


@pytest.fixture(scope="module")
def granted(incumbent_installed: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Sent, Sent]]:
    """What each side sends at its start besides queries: theirs, ours."""
    return asyncio.run(_grant_all(tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")))


async def _grant_all(our_folder: Path, their_folder: Path) -> dict[str, tuple[Sent, Sent]]:
    named = {f"ups{number}": asked for number, asked in enumerate(ASKED.values())}

    async def ours(farm: Farm, name: str) -> None:
        async with _session(farm, name, **named[name].options):
            pass

    async with _made(our_folder, named) as farm:
        await asyncio.gather(*(ours(farm, name) for name in named))
        by_ours = [_sent(farm, name) for name in named]
    async with _made(their_folder, named) as farm:
        sections = {
            name: {"port": farm.link(name), "protocol": "voltronic", "pollinterval": 2}
            | {option: True if option == "reset_to_default" else value for option, value in asked.options.items()}
            for name, asked in named.items()
        }
        async with Incumbent(sections) as incumbent:
            assert all(incumbent.running(name) for name in named)
            by_theirs = [_sent(farm, name) for name in named]
    return dict(zip(ASKED, zip(by_theirs, by_ours, strict=True), strict=True))


@asynccontextmanager
async def _made(folder: Path, named: Mapping[str, Asked]) -> AsyncIterator[Farm]:
    async with Farm(folder, [_unit(asked.protocol, name) for name, asked in named.items()]) as farm:
        farm.speed = 0
        farm.select("all")
        for name, asked in named.items():
            if asked.standby:
                farm.upses[name].machine.switch_off()
        yield farm


def _sent(farm: Farm, name: str) -> Sent:
    queries = {query.command for query in farm.upses[name].dialect.queries}
    return tuple(request for _, request in farm.logs[name] if request not in queries)


@pytest.mark.parametrize("label", ASKED)
def test_the_same_bytes_for_every_option(granted: dict[str, tuple[Sent, Sent]], label: str) -> None:
    """Each once, whatever the order; but the reset first."""
    theirs, ours = granted[label]
    asked = ASKED[label]
    assert (sorted(ours), sorted(theirs)) == (sorted(asked.sent), sorted(asked.sent if asked.theirs is None else asked.theirs))
    if b"PF\r" in ours:
        assert ours[0] == theirs[0] == b"PF\r"
