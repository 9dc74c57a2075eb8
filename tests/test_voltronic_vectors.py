"""All 399 reference exchanges of the voltronic dialect, through detection, session, readout and settings."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from qxfleet.config.load import load
from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.dialects.voltronic.complaints import FAULTS, FAULTS_P31, WARNINGS_TABLE
from qxfleet.dialects.voltronic.settings import SETTINGS
from qxfleet.errors import ConfigError, DialectUnknown, OrderInvalid, OrderNotSupported
from qxfleet.model.events import Observation, OrderResult, Outcome, Remark
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.session.cutting import cut_power
from qxfleet.session.detect import detect
from qxfleet.session.limits import limits_of
from qxfleet.session.session import Session
from qxfleet.transports.inproc import InProcTransport
from tests.virtual import VirtualClock, run_virtual

DATA: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "voltronic-vectors.json").read_text())
VECTORS: list[dict[str, Any]] = DATA["vectors"]
QUESTIONS = {query.command.decode().strip() for query in VOLTRONIC.queries} | {""}
FAULT_BIT = "(230.0 50.0 230.0 50.0 001.2 023 369.1 ---.- 026.5 ---.- 018.8 100001000001"

NAMES = {"battery_number": "battery.number", "qx.test.result": "ups.test.result"}
"""Names of the vectors and ours, where they differ (issue: the captures' name; NUT's name)."""

DERIVED = {"Shutdown imminent!": "derived.shutdown_imminent", "Replace battery!": "derived.replace_battery"}


def of_kind(*kinds: str) -> list[Any]:
    return [pytest.param(vector, id=vector["id"]) for vector in VECTORS if vector["kind"] in kinds]


class Device:
    """The scripted device of the reference (``about.baseline``)."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.sent: list[str] = []
        self.replies: dict[str, str | None] = {
            **DATA["baseline"], "QPI": f"(PI{vector['protocol'][1:]}", **vector.get("context", {}),
        }  # fmt: skip
        if isinstance(vector["command"], str):
            self.replies[vector["command"]] = vector["reply"]
        if vector["id"] == "qfs-field":
            self.replies["QGS"] = FAULT_BIT  # an old record is not asked for; what it means can only be seen with a fault
        self.accepts = vector["kind"] in ("set", "instcmd", "config", "sequence")

    def __call__(self, request: bytes) -> bytes | None:
        text = request.decode("latin-1").rstrip("\r")
        self.sent.append(text)
        if text in self.replies:
            reply = self.replies[text]
        else:
            reply = "(ACK" if self.accepts and text not in QUESTIONS else "(NAK"
        return None if reply is None else reply.encode("latin-1") + b"\r"

    def orders(self) -> list[str]:
        return [text for text in self.sent if text not in QUESTIONS]


def options_of(vector: dict[str, Any]) -> UpsOptions:
    """Options as a session gets them; ``default.*`` and ``runtimecal`` as the configuration would read them."""
    given: dict[str, Any] = {}
    wishes: dict[str, str] = {}
    for name, value in vector.get("options", {}).items():
        if name.startswith("default."):
            given.setdefault("defaults", {})[name.removeprefix("default.")] = float(value)
        elif name == "runtimecal":
            given[name] = tuple(float(each) for each in value.split(","))
        elif name in ("ondelay", "offdelay"):
            given[name + "_s"] = int(value)
        elif name in ("stayoff", "testing"):
            given[name] = True
        else:
            wishes[name] = "yes" if value is None else value
    for name, value in vector.get("server_side", {}).items():
        given[{"ups.delay.start": "ondelay_s", "ups.delay.shutdown": "offdelay_s"}[name]] = int(value)
    return UpsOptions("u", "/dev/x", dialect="voltronic", device_settings=wishes, **given)


class Talk:
    """A session with the device, on virtual time, until everything was asked."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.device = Device(vector)
        self.seen: list[Observation] = []
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.session = Session(options_of(vector), InProcTransport("u", self.device), self.seen.append, self.clock)

    async def __aenter__(self) -> Talk:
        self.tasks = [asyncio.create_task(self.session.run()), asyncio.create_task(self._tick())]
        await asyncio.sleep(20)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            self.session.wake(self.clock.monotonic())
            await asyncio.sleep(0.25)

    @property
    def reading(self) -> Reading:
        return [item for item in self.seen if isinstance(item, Reading)][-1]


def told(talk: Talk) -> dict[str, Any]:
    """What the reading and the settings say, under the vectors' names."""
    reading = talk.reading
    values: dict[str, Any] = {**reading.values, **{name: text for name, text in reading.texts().items() if name == "ups.status"}}
    for info in talk.session.settings():
        if info.choices:
            values[f"{info.name}.settable"] = " ".join(info.choices)
        elif info.low is not None and info.high is not None:
            decimals = ".1f" if "freq" in info.name else "g"
            values[f"{info.name}.settable"] = f"{info.low:{decimals}}..{info.high:{decimals}}"
    values["ups.status"] = " ".join(word for word in values["ups.status"].split() if word != "ALARM")
    codes = [notice.code for notice in reading.notices if notice.alarm]
    values["alarm.codes"] = codes + [DERIVED[text] for text in reading.alarms]
    values["qx.warnings"] = [n + 1 for n, bit in enumerate(values.get("qx.warnings", "")) if bit == "1"]
    values["qx.status.conflict"] = any("conflict" in note for note in reading.notes)
    values["qx.status.implausible"] = any("implausible" in note for note in reading.notes)
    values["qx.status.valid"] = not any("unreadable" in note for note in reading.notes)
    values["qx.fault.present"] = "fault.present" in values["alarm.codes"]
    values["qx.epo"] = values.get("qx.epo") == "yes"
    return values


def same(ours: Any, wanted: Any) -> bool:
    if isinstance(ours, float) and isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return round(ours, 2) == wanted or round(ours) == wanted
    return bool(ours == wanted)


def test_every_vector_is_run() -> None:
    kinds = [vector["kind"] for vector in VECTORS]
    assert len(kinds) == 399
    assert set(kinds) == {"query", "claim", "init", "instcmd", "set", "config", "sequence"}


@pytest.mark.parametrize("vector", of_kind("query", "init"))
def test_query(vector: dict[str, Any]) -> None:
    async def story() -> None:
        async with Talk(vector) as talk:
            values = told(talk)
            wanted = {**vector["expected"], **vector.get("expected_extra", {})}
            assert wanted.pop("initialised", True)
            for name, value in wanted.items():
                ours = values.get(NAMES.get(name, name))
                assert same(ours, value), (name, ours, value)
            for name in vector.get("absent", []):
                assert NAMES.get(name, name) not in values, name
            if vector["id"] in ("i-not-needed", "qmd-hashes"):
                assert "I" not in talk.device.sent
            if vector["id"].startswith("qfs-") or "bit" in vector["id"]:
                assert ("QFS" in talk.device.sent) is values["qx.fault.present"]

    run_virtual(story())


@pytest.mark.parametrize("vector", of_kind("claim"))
def test_claim(vector: dict[str, Any]) -> None:
    async def story() -> bool:
        transport = InProcTransport("u", Device(vector))
        await transport.open()
        try:
            await detect(transport.exchange, "u", dialects=(VOLTRONIC,))
        except DialectUnknown:
            return False
        finally:
            await transport.close()
        return True

    assert run_virtual(story()) is vector["expected"]["claimed"]


@pytest.mark.parametrize("vector", of_kind("instcmd"))
def test_instcmd(vector: dict[str, Any]) -> None:
    async def story() -> None:
        async with Talk(vector) as talk:
            action = vector["action"]
            wanted = vector["expected"]["result"]
            try:
                result = await talk.session.perform(talk.session.prepare(action["instcmd"], action["argument"]))
            except OrderNotSupported:
                assert wanted == "unsupported"
            except OrderInvalid:
                assert wanted == "failed"
            else:
                assert (result.outcome is Outcome.ACCEPTED) is (wanted == "handled"), result
            assert talk.device.orders() == ([] if vector["command"] is None else [vector["command"]])

    run_virtual(story())


@pytest.mark.parametrize("vector", of_kind("set"))
def test_set(vector: dict[str, Any]) -> None:
    """The scripted device says ``(ACK`` and changes nothing: what reads as before is never called accepted."""

    async def story() -> None:
        async with Talk(vector) as talk:
            action, wanted = vector["action"], dict(vector["expected"])
            outcome = wanted.pop("result")
            try:
                result = await talk.session.set(action["set"], action["value"])
            except (OrderInvalid, OrderNotSupported):
                assert outcome == "rejected"
            else:
                assert result.outcome in RESULTS[outcome], result
            assert talk.device.orders() == ([] if vector["command"] is None else [vector["command"]])
            if wanted:
                await asyncio.sleep(4)
                for name, value in wanted.items():
                    assert talk.reading.values[name] == value

    run_virtual(story())


RESULTS = {
    "handled": {Outcome.UNCONFIRMED},
    "failed": {Outcome.REJECTED},
    "rejected": set(),
    "unchanged": {Outcome.ACCEPTED},
    "stored": {Outcome.ACCEPTED},
}


@pytest.mark.parametrize("vector", of_kind("config"))
def test_config(vector: dict[str, Any]) -> None:
    async def story() -> None:
        async with Talk(vector) as talk:
            assert talk.device.orders() == vector["expected"]["sent"]
            assert any(isinstance(item, Remark) and item.name == "capabilities" for item in talk.seen)

    run_virtual(story())


@pytest.mark.parametrize("vector", of_kind("sequence"))
def test_sequence(vector: dict[str, Any], tmp_path: Path) -> None:
    if vector["id"] == "seq-shutdown-bad-offdelay":
        path = tmp_path / "qxfleet.toml"
        path.write_text(
            f'[agent]\ndatabase = "sqlite:///{tmp_path}/x.db"\n'
            '[[ups]]\nname = "u"\nport = "/dev/ttyS0"\ndialect = "voltronic"\noffdelay = 5\n'
        )
        with pytest.raises(ConfigError, match="offdelay"):
            load(path)
        return

    async def story() -> None:
        async with Talk(vector) as talk:
            result: OrderResult = await cut_power(talk.session)
            assert talk.device.orders() == vector["expected"]["sent"]
            assert (result.outcome is Outcome.ACCEPTED) is (vector["expected"]["result"] == "ok")

    run_virtual(story())


def test_the_tables_hold_what_the_vectors_tables_say() -> None:
    tables = DATA["tables"]
    assert [(row["bit"], row["category"], row["level"]) for row in tables["warning_bits"]] == [
        (bit, group, level) for bit, _, group, level in WARNINGS_TABLE
    ]
    for name, ours in (("fault_codes", FAULTS), ("fault_codes_p31", FAULTS_P31)):
        assert [(row["code"], row["label"], row["category"], row["level"]) for row in tables[name]] == list(ours)
    letters = {
        row["name"]: [(f"{row['enable']}\r".encode()), (f"{row['disable']}\r".encode())]
        for row in tables["capability_letters"] if row["kind"] in ("config", "settable")
    }  # fmt: skip
    ours_by_name = {setting.name: [request for _, request in setting.choices] for setting in SETTINGS if setting.choices}
    for name, requests in letters.items():
        assert ours_by_name[name] == requests


PROTOCOLS = ["P00", "P01", "P02", "P03", "P08", "P09", "P10", "P13", "P14", "P31", "P99"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("volts", "hertz"), [(230.0, 50.0), (120.0, 60.0), (230.0, 60.0), (120.0, 50.0)])
def test_limits(protocol: str, volts: float, hertz: float) -> None:
    """The 44 combinations of the vectors' table ``settable_ranges``."""
    known: dict[str, float | str | bool] = {
        "ups.firmware.aux": protocol, "output.voltage.nominal": volts, "input.voltage.nominal": volts,
        "output.frequency.nominal": hertz, "output.current.nominal": 6.0,
    }  # fmt: skip
    cases = (
        "any", "N>=200" if volts >= 200 else "N<200", f"{hertz:.0f}", "product>=1000" if volts * 6 >= 1000 else "product<1000",
    )  # fmt: skip
    for setting in SETTINGS:
        name = "outlet.n.delay.shutdown" if setting.name.startswith("outlet.") else setting.option or setting.name
        if setting.choices:
            continue
        wanted = None
        for rule in DATA["tables"]["settable_ranges"][name]["rules"]:
            if rule["protocols"] == "all" or protocol in rule["protocols"]:
                key = next(key for key in cases if key in rule)
                wanted = tuple(volts + float(e[1:]) if str(e).startswith("N") else float(e) for e in rule[key])
        assert limits_of(setting, known) == wanted, setting.name
