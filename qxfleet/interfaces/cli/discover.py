"""``discover``: which ports have a UPS that we can talk to. Sends queries only."""

from __future__ import annotations

import json as json_text
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qxfleet.errors import DialectUnknown, LinkError, LinkUnavailable
from qxfleet.interfaces.cli.output import Json, complain, console, emit, printable
from qxfleet.interfaces.cli.probe import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qxfleet.session.probe import Probe
    from qxfleet.transports.usb_bus import UsbDescription

Looked = tuple[str, "Probe | DialectUnknown | LinkError"]


def discover(
    ports: Annotated[
        list[str] | None, typer.Argument(metavar="[PORT]...", help="Default: every serial port and USB UPS there is.")
    ] = None,
    json: Json = False,
) -> None:
    """Look at serial ports and USB devices and print ready-to-paste configuration for what answers.

    Nothing but queries is sent. Exit code 1 if no UPS was found.
    """
    import asyncio

    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from qxfleet.transports.address import transport_for
    from qxfleet.transports.ports import serial_ports
    from qxfleet.transports.usb_bus import BUSES

    try:
        devices = [device for device in BUSES.devices() if device.bridge is not None]
    except LinkUnavailable as error:
        complain(str(error))
        devices = []
    usb = {f"usb:{device.path}": device for device in devices}
    chosen = [*dict.fromkeys(each for port in ports for each in (usb if port == "auto" else (port,)))] if ports else [
        *(port.name for port in serial_ports()), *usb
    ]  # fmt: skip
    for port in chosen:
        try:
            transport_for(port)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="'PORT'") from None
    stderr = console(stderr=True)
    if not chosen:
        complain("this machine has no serial port and no USB UPS; name a port, e.g. socket://host:port")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        tasks = {port: progress.add_task(f"{port}: asking") for port in chosen}

        def done(port: str, what: str) -> None:
            progress.update(tasks[port], description=f"{port}: {what}", total=1, completed=1)

        looked = asyncio.run(_look_at(chosen, done))
    if json:
        emit({"ports": [_document(port, result, usb.get(port)) for port, result in looked]})
    else:
        _print(looked, usb)
    if all(isinstance(result, (DialectUnknown, LinkError)) for _, result in looked):
        raise typer.Exit(1)


async def _look_at(ports: Sequence[str], done: Callable[[str, str], None]) -> list[Looked]:
    """Probe all ports at the same time, each as configured by default."""
    import asyncio

    from qxfleet.model.clock import Clock
    from qxfleet.model.options import UpsOptions
    from qxfleet.session.probe import probe
    from qxfleet.transports.address import transport_for

    async def one(port: str) -> Looked:
        try:
            found = await probe(UpsOptions(_name(port), port), transport_for(port), Clock())
        except DialectUnknown as error:
            done(port, "no UPS recognised")
            return port, error
        except LinkError as error:
            done(port, error.reason)
            return port, error
        done(port, found.dialect.name)
        return port, found

    return list(await asyncio.gather(*(one(port) for port in ports)))


def _print(looked: Sequence[Looked], usb: Mapping[str, UsbDescription]) -> None:
    for port, result in looked:
        if isinstance(result, DialectUnknown):
            for line in explained(result):
                complain(line)
        elif isinstance(result, LinkError):
            complain(str(result))
        else:
            typer.echo(_block(port, result, usb.get(port)))


def _block(port: str, found: Probe, device: UsbDescription | None) -> str:
    lines = ["[[ups]]", f"name = {_toml(_name(port))}"]
    if device is None:
        lines.append(f"port = {_toml(port)}")
    else:
        lines.insert(0, f"# bus {device.bus:03d}, {printable(str(device))}, bridge {device.bridge}")
        lines += ['port = "auto"', f"usb_path = {_toml(device.path)}"]
    lines.append(f"dialect = {_toml(found.dialect.name)}")
    described = _described(found)
    if described:
        lines.append(f"description = {_toml(described)}")
    return "\n".join(lines) + "\n"


def _document(
    port: str, result: Probe | DialectUnknown | LinkError, device: UsbDescription | None
) -> dict[str, Any]:
    seen = {} if device is None else {
        "usb": {
            "bus": f"{device.bus:03d}", "path": device.path, "ids": device.ids, "bridge": device.bridge,
            "vendor": device.vendor, "product": device.product, "serial": device.serial,
        }
    }  # fmt: skip
    if isinstance(result, (DialectUnknown, LinkError)):
        answers = result.evidence if isinstance(result, DialectUnknown) else ()
        return {
            "port": port,
            **seen,
            "dialect": None,
            "problem": str(result),
            "answers": [
                {"request": request.decode("latin-1"), "kind": kind, "reply": frame.decode("latin-1")}
                for request, kind, frame in answers
            ],
        }
    return {
        "port": port,
        **seen,
        "dialect": result.dialect.name,
        "problem": None,
        "name": _name(port),
        "description": _described(result),
        "answers": [
            {"request": request, "kind": kind, "reply": frame} for request, kind, frame in result.identity.evidence
        ],
    }  # fmt: skip


def _described(found: Probe) -> str:
    facts = found.identity.facts
    words = [str(facts[name]) for name in ("device.mfr", "device.model", "ups.firmware") if facts.get(name)]
    return printable(" ".join(words))


def _name(port: str) -> str:
    """A name to begin with, made of the port's: ``/dev/ttyS0`` → ``ups-ttys0``, ``usb:1-1.4`` → ``ups-usb-1-1.4``."""
    tail = re.sub(r"[^a-z0-9._-]+", "-", port.rpartition("/")[2].lower()).strip("-")
    if tail.startswith("ups"):
        return tail
    return f"ups-{tail}" if tail else "ups-1"


def _toml(text: str) -> str:
    return json_text.dumps(text, ensure_ascii=False)
