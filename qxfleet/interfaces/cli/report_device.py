"""``report-device``: everything a UPS says as a file to share. Sends queries only."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qxfleet.interfaces.cli.output import Json, complain, emit
from qxfleet.interfaces.cli.usb_options import (
    Bus,
    LangidFix,
    Product,
    ProductId,
    Serial,
    Subdriver,
    Vendor,
    VendorId,
    selection,
)

if TYPE_CHECKING:
    from qxfleet.session.report import Report
    from qxfleet.transports.base import Transport


def report_device(
    port: Annotated[
        str,
        typer.Argument(metavar="PORT", help="A serial port, socket://host:port, rfc2217://host:port, usb:1-1.4, or auto (USB)."),
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write there.", show_default="ups-report.txt")] = None,
    cablepower: Annotated[
        str, typer.Option("--cablepower", metavar="normal|reverse|both|none", help="How DTR and RTS feed the interface.")
    ] = "normal",
    subdriver: Subdriver = None,
    langid_fix: LangidFix = None,
    vendorid: VendorId = None,
    productid: ProductId = None,
    vendor: Vendor = None,
    product: Product = None,
    serial: Serial = None,
    bus: Bus = None,
    json: Json = False,
) -> None:
    """Ask a UPS everything it may know, and write its answers to a file that can be shared and replayed.

    Nothing but queries is sent; serial numbers are masked; the machine, its port and the time of day are not in it. Takes a
    minute or two for a UPS that is not recognised. Exit code 1 if nothing answers.
    """
    import asyncio

    from qxfleet.interfaces.cli.probe import CABLEPOWER
    from qxfleet.session.report import masked
    from qxfleet.testing.transcript import Exchange, read_transcript
    from qxfleet.transports.address import transport_for

    if cablepower not in CABLEPOWER:
        raise typer.BadParameter(f"{cablepower!r}: expected {', '.join(CABLEPOWER)}", param_hint="'--cablepower'")
    usb = selection(subdriver, langid_fix, vendorid, productid, vendor, product, serial, bus)
    if port.startswith("nut://"):
        raise typer.BadParameter("a NUT server has its own words for its UPSes: `qxfleet probe` shows them", param_hint="'PORT'")
    try:
        transport = transport_for(port, cablepower=cablepower, usb=usb)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'PORT'") from None
    file = out or Path("ups-report.txt")
    try:
        stream = file.open("x", encoding="ascii")
    except FileExistsError:
        raise typer.BadParameter(f"{file} exists already: name a new file", param_hint="'--out'") from None
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="'--out'") from None
    with stream:
        said = io.StringIO()
        try:
            report = asyncio.run(_recorded(transport, port, said))
        except BaseException:
            file.unlink()
            raise
        exchanges = read_transcript(said.getvalue().splitlines())
        name = report.dialect.name if report.dialect else "none that fits"
        stream.write(f"{HEAD}# dialect: {name}; link: {report.link}\n")
        for each in exchanges:
            frame, end, rest = each.reply.partition(b"\r")
            reply = masked(each.request, frame) + end + rest
            stream.write(Exchange(each.at_s, each.request, each.done_s, reply, each.trouble).text())
    answered = sum(bool(each.reply) for each in exchanges)
    if json:
        emit({"file": str(file), "dialect": report.dialect.name if report.dialect else None, "questions": len(exchanges),
              "answered": answered})  # fmt: skip
    else:
        complain(f"{file}: {answered} of {len(exchanges)} questions answered, dialect {name}; look at it before you share it")
    if not answered:
        raise typer.Exit(1)


HEAD = """\
# qxfleet transcript 1
# It holds, for each exchange: seconds since the start, the bytes sent to the UPS, the bytes it answered, and failures.
# It does not hold the name of this machine, the port, the user, or the time of day. Serial numbers are masked.
"""


async def _recorded(transport: Transport, port: str, stream: io.StringIO) -> Report:
    from qxfleet.session.report import ask_everything
    from qxfleet.testing.transcript import RecordingTransport

    return await ask_everything(RecordingTransport(transport, stream), port)
