"""``discover``: which ports have a UPS that we can talk to. Sends queries only."""

from __future__ import annotations

import json as json_text
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qxfleet.errors import DialectUnknown, LinkError, LinkUnavailable
from qxfleet.interfaces.cli.nut_options import CaFile, PasswordFile, PinOption, Tls, UserFile, access, names_ups
from qxfleet.interfaces.cli.output import Json, complain, console, emit, printable
from qxfleet.interfaces.cli.probe import explained
from qxfleet.interfaces.cli.usb_options import Bus, LangidFix, Product, ProductId, Serial, Subdriver, Vendor, VendorId, selection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qxfleet.model.options import UpsdAccess
    from qxfleet.session.probe import Probe
    from qxfleet.transports.usb_bus import UsbDescription

Looked = tuple[str, "Probe | DialectUnknown | LinkError", "str | None"]
"""Port, what came of it, and the bridge that was used where it is not the table's."""


def discover(
    ports: Annotated[
        list[str] | None, typer.Argument(metavar="[PORT]...", help="Default: every serial port and USB UPS there is.")
    ] = None,
    subdriver: Subdriver = None,
    langid_fix: LangidFix = None,
    vendorid: VendorId = None,
    productid: ProductId = None,
    vendor: Vendor = None,
    product: Product = None,
    serial: Serial = None,
    bus: Bus = None,
    user_file: UserFile = None,
    password_file: PasswordFile = None,
    tls: Tls = False,
    ca_file: CaFile = None,
    pin: PinOption = None,
    json: Json = False,
) -> None:
    """Look at serial ports and USB devices and print ready-to-paste configuration for what answers.

    A NUT server (nut://host) stands for all its UPSes. Nothing but queries is sent. A USB device is asked by each bridge that its
    ids are known with, until one is understood. HID devices that no table knows are listed. Exit code 1 if no UPS was found.
    """
    import asyncio

    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from qxfleet.transports.address import transport_for
    from qxfleet.transports.ports import serial_ports
    from qxfleet.transports.usb_bus import BUSES, Selection

    options = selection(subdriver, langid_fix, vendorid, productid, vendor, product, serial, bus)
    try:
        everything = BUSES.devices()
        meant = Selection.of({**options, "usb_path": ""})
        devices = [device for device in everything if meant.bridge_of(device) is not None]
    except LinkUnavailable as error:
        complain(str(error))
        everything, devices = (), []
    unknown = [device for device in everything if device.hid and device.bridge is None and device not in devices]
    usb = {f"usb:{device.path}": device for device in devices}
    chosen = [*dict.fromkeys(each for port in ports for each in (usb if port == "auto" else (port,)))] if ports else [
        *(port.name for port in serial_ports()), *usb
    ]  # fmt: skip
    servers: dict[str, UpsdAccess] = {}
    for port in chosen:
        try:
            if port.startswith("nut://"):
                servers[port] = access(port, user_file, password_file, tls, ca_file, pin)
            else:
                transport_for(port)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="'PORT'") from None
    if servers:
        chosen, servers = asyncio.run(_with_upses(chosen, servers))
    stderr = console(stderr=True)
    if not chosen:
        complain("this machine has no serial port and no USB UPS; name a port, e.g. socket://host:port")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        tasks = {port: progress.add_task(f"{port}: asking") for port in chosen}

        def done(port: str, what: str) -> None:
            progress.update(tasks[port], description=f"{port}: {what}", total=1, completed=1)

        looked = asyncio.run(_look_at(chosen, done, usb, options, servers))
    if json:
        emit({
            "ports": [_document(port, result, usb.get(port), bridge) for port, result, bridge in looked],
            "unknown_hid": [
                {"path": device.path, "ids": device.ids, "vendor": device.vendor, "product": device.product} for device in unknown
            ],
        })  # fmt: skip
    else:
        _print(looked, usb)
        for device in unknown:
            complain(
                f"{printable(str(device))}: a HID device that no table knows; if it is a UPS, try "
                f"`qxfleet probe usb:{device.path} --subdriver cypress`, or another bridge"
            )
    if all(isinstance(result, (DialectUnknown, LinkError)) for _, result, _ in looked):
        raise typer.Exit(1)


async def _with_upses(ports: Sequence[str], servers: Mapping[str, UpsdAccess]) -> tuple[list[str], dict[str, UpsdAccess]]:
    """The ports with each NUT server replaced by those of its UPSes. Raises LinkError."""
    from qxfleet.transports.nut import upses_of

    found: dict[str, UpsdAccess | None] = {}
    for port in ports:
        upsd = servers.get(port)
        if upsd is None or names_ups(port):
            found[port] = upsd
        else:
            found.update({f"{port.rstrip('/')}/{name}": upsd for name, _ in await upses_of(upsd)})
    return list(found), {port: upsd for port, upsd in found.items() if upsd is not None}


async def _look_at(
    ports: Sequence[str], done: Callable[[str, str], None], usb: Mapping[str, UsbDescription], options: Mapping[str, str],
    servers: Mapping[str, UpsdAccess],
) -> list[Looked]:  # fmt: skip
    """Probe all ports at the same time, each as configured by default; a USB device by each bridge it may have."""
    import asyncio

    from qxfleet.model.clock import Clock
    from qxfleet.model.options import UpsOptions
    from qxfleet.session.probe import probe
    from qxfleet.transports.address import transport_for

    async def one(port: str) -> Looked:
        bridges = _bridges(usb.get(port), options)
        first: DialectUnknown | LinkError | None = None
        for bridge in bridges:
            chosen = {"langid_fix": options["langid_fix"]} if "langid_fix" in options else {}
            chosen |= {"subdriver": bridge} if bridge else {}
            try:
                transport = transport_for(port, usb=chosen, upsd=servers.get(port))
                found = await probe(UpsOptions(_name(port), port), transport, Clock())
            except (DialectUnknown, LinkError) as error:
                first = first or error
                if isinstance(error, LinkError):
                    break
            else:
                done(port, found.dialect.name)
                return port, found, bridge
        assert first is not None
        done(port, "no UPS recognised" if isinstance(first, DialectUnknown) else first.reason)
        return port, first, None

    return list(await asyncio.gather(*(one(port) for port in ports)))


def _bridges(device: UsbDescription | None, options: Mapping[str, str]) -> tuple[str | None, ...]:
    """By what to ask a port: the bridge that was named, else the table's, then each other one that its ids are known with."""
    from qxfleet.transports.usb_ids import bridges_of

    if device is None or "subdriver" in options:
        return (options.get("subdriver") if device is not None else None,)
    return (None, *(name for name in bridges_of(device.vendor_id, device.product_id) if name != device.bridge))


def _print(looked: Sequence[Looked], usb: Mapping[str, UsbDescription]) -> None:
    for port, result, bridge in looked:
        if isinstance(result, DialectUnknown):
            for line in explained(result):
                complain(line)
        elif isinstance(result, LinkError):
            complain(str(result))
        else:
            typer.echo(_block(port, result, usb.get(port), bridge))


def _block(port: str, found: Probe, device: UsbDescription | None, bridge: str | None) -> str:
    lines = ["[[ups]]", f"name = {_toml(_name(port))}"]
    if device is None:
        lines.append(f"port = {_toml(port)}")
    else:
        lines.insert(0, f"# bus {device.bus:03d}, {printable(str(device))}, bridge {bridge or device.bridge}")
        lines += ['port = "auto"', f"usb_path = {_toml(device.path)}"]
        if bridge:
            lines += [
                f"subdriver = {_toml(bridge)}", f'vendorid = "{device.vendor_id:04x}"', f'productid = "{device.product_id:04x}"',
            ]  # fmt: skip
    if not port.startswith("nut://"):
        lines.append(f"dialect = {_toml(found.dialect.name)}")
    described = _described(found)
    if described:
        lines.append(f"description = {_toml(described)}")
    return "\n".join(lines) + "\n"


def _document(
    port: str, result: Probe | DialectUnknown | LinkError, device: UsbDescription | None, bridge: str | None
) -> dict[str, Any]:
    seen = {} if device is None else {
        "usb": {
            "bus": f"{device.bus:03d}", "path": device.path, "ids": device.ids, "bridge": bridge or device.bridge,
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
    if tail.startswith("ups") or port.startswith("nut://"):
        return tail
    return f"ups-{tail}" if tail else "ups-1"


def _toml(text: str) -> str:
    return json_text.dumps(text, ensure_ascii=False)
