"""``probe``: one device without an agent. Sends queries only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qxfleet.errors import DialectUnknown
from qxfleet.interfaces.cli.nut_options import CaFile, PasswordFile, PinOption, Tls, UserFile, access, names_ups
from qxfleet.interfaces.cli.output import Json, complain, emit, printable
from qxfleet.interfaces.cli.usb_options import (
    Bus,
    LangidFix,
    Product,
    ProductId,
    Serial,
    Subdriver,
    Vendor,
    VendorId,
    hints,
    selection,
)

if TYPE_CHECKING:
    from qxfleet.model.options import UpsdAccess, UpsOptions
    from qxfleet.session.probe import Probe
    from qxfleet.transports.base import Transport

CABLEPOWER = ("normal", "reverse", "both", "none")


def probe(
    port: Annotated[
        str,
        typer.Argument(
            metavar="PORT", help="A serial port, socket://host:port, rfc2217://host:port, usb:1-1.4, auto (USB), or nut://host/name."
        ),
    ],
    dialect: Annotated[str, typer.Option("--dialect", metavar="D", help="Take this one instead of finding out.")] = "auto",
    norating: Annotated[bool, typer.Option("--norating", help="Do not ask for ratings.")] = False,
    novendor: Annotated[bool, typer.Option("--novendor", help="Do not ask for maker and model.")] = False,
    cablepower: Annotated[
        str, typer.Option("--cablepower", metavar="|".join(CABLEPOWER), help="How DTR and RTS feed the interface.")
    ] = "normal",
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
    transcript: Annotated[
        Path | None, typer.Option("--transcript", metavar="FILE", help="Write what was said to FILE, to share it.")
    ] = None,
    json: Json = False,
) -> None:
    """Look at one UPS without an agent: detect its dialect, read everything once.

    A NUT server alone (nut://host) lists its UPSes. Nothing but queries is sent. Exit code 1 if nothing answers.
    """
    import asyncio

    from qxfleet.api.shapes import settings_shape
    from qxfleet.dialects.registry import dialect_named, names
    from qxfleet.model.clock import Clock
    from qxfleet.model.options import UpsOptions
    from qxfleet.session.probe import probe as look
    from qxfleet.transports.address import transport_for

    if dialect != "auto" and dialect_named(dialect) is None:
        raise typer.BadParameter(f"{dialect!r}: expected auto, {', '.join(names())}", param_hint="'--dialect'")
    if cablepower not in CABLEPOWER:
        raise typer.BadParameter(f"{cablepower!r}: expected {', '.join(CABLEPOWER)}", param_hint="'--cablepower'")
    try:
        usb = selection(subdriver, langid_fix, vendorid, productid, vendor, product, serial, bus)
        if usb and port != "auto" and not port.startswith("usb:"):
            raise typer.BadParameter(f"belongs to USB, {port} is not", param_hint=f"'--{next(iter(usb)).replace('_', '-')}'")
        upsd = access(port, user_file, password_file, tls, ca_file, pin) if port.startswith("nut://") else None
        if upsd is not None and not names_ups(port):
            _list_upses(port, upsd, json=json)
            return
        transport = transport_for(port, cablepower=cablepower, usb=usb, novendor=novendor, upsd=upsd)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'PORT'") from None
    options = UpsOptions(Path(port).name, port, dialect=dialect, norating=norating, novendor=novendor, cablepower=cablepower)
    try:
        if transcript is None:
            found = asyncio.run(look(options, transport, Clock()))
        else:
            found = asyncio.run(_recorded(options, transport, transcript))
    except DialectUnknown as error:
        for line in explained(error):
            complain(line)
        raise typer.Exit(1) from None
    variables = found.reading.texts()
    if json:
        emit(
            {
                "port": port,
                "dialect": found.dialect.name,
                "variables": variables,
                "commands": sorted(order.name for order in found.orders),
                "settings": settings_shape(found.settings),
            }
        )
    else:
        for name, value in variables.items():
            typer.echo(f"{name}: {printable(value)}")
        complain(f"{port}: dialect {found.dialect.name} ({found.dialect.title}), {found.link.detail}")


def _list_upses(port: str, upsd: UpsdAccess, *, json: bool) -> None:
    """The UPSes of a NUT server."""
    import asyncio

    from qxfleet.transports.nut import upses_of

    upses = asyncio.run(upses_of(upsd))
    where = port.rstrip("/")
    if json:
        emit({"port": port, "ups": [{"name": name, "port": f"{where}/{name}", "description": text} for name, text in upses]})
        return
    for name, text in upses:
        typer.echo(f"{where}/{name}" + (f": {printable(text)}" if text else ""))
    complain(f"{where}: {len(upses)} UPS{'' if len(upses) == 1 else 'es'}")


async def _recorded(options: UpsOptions, transport: Transport, file: Path) -> Probe:
    from qxfleet.model.clock import Clock
    from qxfleet.session.probe import probe as look
    from qxfleet.testing.transcript import RecordingTransport

    try:
        stream = file.open("x", encoding="ascii")
    except FileExistsError:
        raise typer.BadParameter(f"{file} exists already: name a new file", param_hint="'--transcript'") from None
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="'--transcript'") from None
    with stream:
        return await look(options, RecordingTransport(transport, stream), Clock())


def explained(error: DialectUnknown) -> list[str]:
    """Why nothing was recognised: what each question brought, and what to try."""
    from qxfleet.model.wire import shown

    lines = [f"{error.port}: no dialect fits what was answered"]
    for request, kind, frame in error.evidence:
        reply = f": {frame.decode('latin-1')!r}" if frame else ""
        lines.append(f"  {shown(request) or 'CR'}: {kind}{reply}")
    if any(frame for _, _, frame in error.evidence):
        lines.append("something answers, but as none of the dialects: `qxfleet report-device PORT` writes down what, to share it")
    if error.port.startswith(("usb:", "auto")):
        return [*lines, *hints(error.port)]
    if not any(frame for _, _, frame in error.evidence):
        lines.append("nothing answers: is the UPS on, the cable its own, the port right?")
        lines.append("some interfaces are fed through the port: try --cablepower reverse, both or none")
    return lines
