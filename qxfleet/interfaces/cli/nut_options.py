"""The options of ``probe`` and ``discover`` for NUT servers, under the names they have in ``[[upsd]]``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qxfleet.model.options import UpsdAccess

_PANEL = "NUT server"

UserFile = Annotated[
    Path | None, typer.Option("--user-file", metavar="FILE", help="Its user's name, to list commands …", rich_help_panel=_PANEL)
]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="… and password.", rich_help_panel=_PANEL)
]
Tls = Annotated[bool, typer.Option("--tls", help="STARTTLS, by what this machine trusts.", rich_help_panel=_PANEL)]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", metavar="FILE", help="STARTTLS, signed by this authority.", rich_help_panel=_PANEL)
]
PinOption = Annotated[
    str | None, typer.Option("--pin", metavar="SHA256", help="STARTTLS, by this certificate.", rich_help_panel=_PANEL)
]


def access(
    port: str, user_file: Path | None, password_file: Path | None, tls: bool, ca_file: Path | None, pin: str | None
) -> UpsdAccess:
    """The way to the server of ``nut://host``, with or without a UPS behind it. Raises typer.BadParameter and ValueError."""
    from qxfleet.config.forms import Pin
    from qxfleet.model.nut_port import nut_port, nut_server
    from qxfleet.model.options import UpsdAccess

    if (user_file is None) is not (password_file is None):
        raise typer.BadParameter("--user-file and --password-file belong together", param_hint="'--user-file'")
    try:
        digits = Pin().read(pin) if pin is not None else ""
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--pin'") from None
    there = nut_port(port) if names_ups(port) else nut_server(port)
    return UpsdAccess(
        there.host, there.port, str(user_file or ""), str(password_file or ""), tls or ca_file is not None or bool(digits),
        str(ca_file or ""), digits,
    )  # fmt: skip


def names_ups(port: str) -> bool:
    """Whether a port ``nut://…`` names a UPS and not only a server."""
    return "/" in port.removeprefix("nut://").rstrip("/")
