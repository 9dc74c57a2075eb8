"""The USB options of ``probe``, ``discover`` and ``report-device``, under the names they have in the configuration."""

from __future__ import annotations

import re
from typing import Annotated

import typer

_PANEL = "USB"

Subdriver = Annotated[
    str | None, typer.Option("--subdriver", metavar="BRIDGE", help="Talk by this bridge.", rich_help_panel=_PANEL)
]
LangidFix = Annotated[
    str | None, typer.Option("--langid-fix", metavar="ID", help="0x409 or 0x4095, for krauler, hunnox and snr.",
                             rich_help_panel=_PANEL)
]  # fmt: skip
VendorId = Annotated[str | None, typer.Option("--vendorid", metavar="RE", help="The device's ids …", rich_help_panel=_PANEL)]
ProductId = Annotated[str | None, typer.Option("--productid", metavar="RE", help="… as hex digits.", rich_help_panel=_PANEL)]
Vendor = Annotated[str | None, typer.Option("--vendor", metavar="RE", help="Its texts …", rich_help_panel=_PANEL)]
Product = Annotated[str | None, typer.Option("--product", metavar="RE", help="… as the kernel has them …", rich_help_panel="USB")]
Serial = Annotated[str | None, typer.Option("--serial", metavar="RE", help="… matched whole.", rich_help_panel=_PANEL)]
Bus = Annotated[str | None, typer.Option("--bus", metavar="RE", help="Its bus, as three digits.", rich_help_panel=_PANEL)]


def selection(
    subdriver: str | None, langid_fix: str | None, vendorid: str | None, productid: str | None, vendor: str | None,
    product: str | None, serial: str | None, bus: str | None,
) -> dict[str, str]:  # fmt: skip
    """The options that were given, under their names in the configuration. Raises typer.BadParameter."""
    from qxfleet.config.forms import LanguageId, UsbBridge
    from qxfleet.config.ups import LANGUAGE_BRIDGES

    given = {
        "subdriver": subdriver, "langid_fix": langid_fix, "vendorid": vendorid, "productid": productid, "vendor": vendor,
        "product": product, "serial": serial, "bus": bus,
    }  # fmt: skip
    options = {name: text for name, text in given.items() if text is not None}
    for name, form in (("subdriver", UsbBridge()), ("langid_fix", LanguageId())):
        if name in options:
            try:
                options[name] = str(form.read(options[name]))
            except ValueError as error:
                raise typer.BadParameter(str(error), param_hint=f"'--{name.replace('_', '-')}'") from None
    for name in ("vendorid", "productid", "vendor", "product", "serial", "bus"):
        try:
            re.compile(options.get(name, ""))
        except re.error as error:
            raise typer.BadParameter(f"{options[name]!r} is no regular expression: {error}", param_hint=f"'--{name}'") from None
    if "langid_fix" in options and options.get("subdriver", LANGUAGE_BRIDGES[0]) not in LANGUAGE_BRIDGES:
        raise typer.BadParameter(
            f"belongs to {', '.join(LANGUAGE_BRIDGES)}, not {options['subdriver']}", param_hint="'--langid-fix'"
        )
    return options


def hints(port: str) -> list[str]:
    """What to try where a USB device gave no usable answer, as far as the bus tells."""
    from qxfleet.errors import LinkUnavailable
    from qxfleet.transports.usb_bus import BUSES
    from qxfleet.transports.usb_ids import bridges_of

    lines = ["is the UPS switched on, and is no other program (a NUT driver, the maker's) talking to it?"]
    try:
        device = next((each for each in BUSES.devices() if f"usb:{each.path}" == port), None)
    except LinkUnavailable:
        return lines
    if device is not None:
        others = [name for name in bridges_of(device.vendor_id, device.product_id) if name != device.bridge]
        if others:
            lines.append(f"{device.ids} is used with other bridges, too: try --subdriver {' or '.join(others)}")
        if any(name in ("krauler", "hunnox", "snr") for name in (device.bridge, *others)):
            lines.append("such a bridge may need --langid-fix 0x409")
    return lines
