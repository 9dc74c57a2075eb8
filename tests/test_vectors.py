"""All 169 reference exchanges of the Megatec family, through configuration, session and readout."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from qxfleet.config.load import load
from qxfleet.errors import ConfigError, DialectUnknown, OrderInvalid, OrderNotSupported
from qxfleet.model.events import Link, LinkChange, Observation, OrderResult, Outcome, Trouble
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.session.detect import detect
from qxfleet.session.session import Session
from qxfleet.transports.inproc import InProcTransport
from tests.virtual import VirtualClock, run_virtual

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "megatec-vectors.json").read_text())
STATUS = {"Q1\r", "QS\r", "D\r"}
REASONS = {
    "short_reply": "ReplyMalformed: short",
    "bad_leader": "ReplyMalformed: lead",
    "unsupported_echo": "ReplyRefused: echo",
    "rejected": "ReplyRefused: nak",
    "malformed_status": "ReplyMalformed: bits",
}
BETTER = {
    # The incumbent's failures that the reference tells a rival not to repeat (notes of the vectors).
    "status-temperature-negative": {"ups.temperature": "-5.0"},
    "cmd-megatec-paren-ack": {"result": "handled"},
}


def options_of(vector: dict[str, Any], tmp_path: Path) -> UpsOptions:
    lines = ["[agent]", f'database = "sqlite:///{tmp_path}/x.db"', "[[ups]]", 'name = "u"', 'port = "/dev/ttyS0"']
    lines.append(f'dialect = "{vector["dialect"]}"')
    for name, value in vector.get("options", {}).items():
        if name == "runtimecal":
            lines.append(f"runtimecal = [{value}]")
        else:
            lines.append(f"{name} = {'true' if value is True else value}")
    path = tmp_path / "qxfleet.toml"
    path.write_text("\n".join(lines) + "\n")
    return load(path).ups[0]


class Device:
    """The scripted device of the reference: default replies, the vector's own on top, echo for the rest."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.sent: list[str] = []
        self.replies = {
            **dict.fromkeys(STATUS, "(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000\r"),
            "F\r": "#220.0 000 024.0 50.0\r",
            "I\r": "#ACME UPS CO     RT-3000    VT12046Q  \r",
            "FW?\r": "#ACME UPS CO     RT-3000    VT12046Q  \r",
            "QPI\r": "(PI98\r",
            **vector.get("other_replies", {}),
        }
        if vector["command"] is not None:
            self.replies[vector["command"]] = vector["reply"]

    def __call__(self, request: bytes) -> bytes | None:
        text = request.decode("latin-1")
        self.sent.append(text)
        return self.replies.get(text, text).encode("latin-1")

    def orders(self) -> list[str]:
        return [text for text in self.sent if text not in {*STATUS, "F\r", "I\r", "FW?\r", "QPI\r", "\r"}]


async def talk(
    options: UpsOptions, device: Device, instcmd: str | None = None, arg: str | None = None
) -> tuple[list[Observation], OrderResult | str | None]:
    """Let a session talk to the device until it has asked everything; then one order, if any."""
    seen: list[Observation] = []
    clock = VirtualClock(asyncio.get_running_loop())
    session = Session(options, InProcTransport("u", device), seen.append, clock)
    running = asyncio.create_task(session.run())
    result: OrderResult | str | None = None

    async def ticks() -> None:
        while True:
            session.wake(clock.monotonic())
            await asyncio.sleep(0.25)

    ticking = asyncio.create_task(ticks())
    await asyncio.sleep(12)
    if instcmd is not None:
        try:
            result = await session.perform(session.prepare(instcmd, arg))
        except OrderNotSupported:
            result = "unknown"
        except OrderInvalid:
            result = "failed"
    for task in (ticking, running):
        task.cancel()
    await asyncio.gather(ticking, running, return_exceptions=True)
    return seen, result


def same(name: str, ours: str | None, wanted: str) -> bool:
    if ours is None:
        return False
    if name == "ups.status":
        return set(ours.split()) == set(wanted.split())
    try:
        return float(ours) == float(wanted)
    except ValueError:
        return ours == wanted


QUERIES = [vector for vector in VECTORS if vector["kind"] == "query"]
ORDERS = [vector for vector in VECTORS if vector["kind"] == "instcmd"]
CONFIGS = [vector for vector in VECTORS if vector["kind"] == "config"]


def test_every_vector_is_run() -> None:
    assert len(QUERIES) + len(ORDERS) + len(CONFIGS) == len(VECTORS) == 169


@pytest.mark.parametrize("vector", QUERIES, ids=lambda vector: vector["id"])
def test_query(vector: dict[str, Any], tmp_path: Path) -> None:
    device = Device(vector)
    seen, _ = run_virtual(talk(options_of(vector, tmp_path), device))
    readings = [item for item in seen if isinstance(item, Reading)]
    troubles = {item.reason for item in seen if isinstance(item, Trouble)}
    error = vector.get("error")
    if error in REASONS and vector["command"] in STATUS:
        assert not readings
        assert REASONS[error] in troubles
        assert any(isinstance(item, LinkChange) and item.link is Link.LOST for item in seen)
        return
    if vector["id"] == "protocol-other":
        with pytest.raises(DialectUnknown):
            run_virtual(claim("mecer", device))
        return
    if error in REASONS:
        assert REASONS[error] in troubles
    assert readings, troubles
    texts = readings[-1].texts()
    better = BETTER.get(vector["id"], {})
    for name, wanted in {**vector["expected"], **better}.items():
        assert same(name, texts.get(name), wanted), (name, texts.get(name), wanted)
    for name in vector.get("absent", []):
        assert name not in texts or name in better, (name, texts[name])


async def claim(name: str, device: Device) -> None:
    """Detection among mecer alone, for the vectors about what it may claim."""
    from qxfleet.dialects.registry import dialect_named

    transport = InProcTransport("u", device)
    await transport.open()
    dialect = dialect_named(name)
    assert dialect is not None
    try:
        await detect(transport.exchange, "u", dialects=(dialect,))
    finally:
        await transport.close()


@pytest.mark.parametrize("vector", ORDERS, ids=lambda vector: vector["id"])
def test_order(vector: dict[str, Any], tmp_path: Path) -> None:
    device = Device(vector)
    seen, result = run_virtual(talk(options_of(vector, tmp_path), device, vector["instcmd"], vector["arg"]))
    wanted = {**vector["expected"], **BETTER.get(vector["id"], {})}
    if wanted["result"] == "unknown":
        assert result == "unknown"
        return
    assert device.orders() == ([] if vector["command"] is None else [vector["command"]])
    if vector["command"] is None:
        assert result == "failed"
        return
    assert isinstance(result, OrderResult)
    handled = {Outcome.ACCEPTED, Outcome.UNCONFIRMED} if not vector["reply"] else {Outcome.ACCEPTED}
    assert (result.outcome in handled) is (wanted["result"] == "handled"), result
    texts = [item for item in seen if isinstance(item, Reading)][-1].texts()
    for name, value in wanted.items():
        if name != "result":
            assert same(name, texts.get(name), value), (name, texts.get(name), value)


@pytest.mark.parametrize("vector", CONFIGS, ids=lambda vector: vector["id"])
def test_configuration_error(vector: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        options_of(vector, tmp_path)
    (option,) = vector["options"]
    assert any(option in problem for problem in caught.value.problems)
