"""The options of one UPS as a session needs them, free of how they were written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qxfleet.model.nut_port import SCHEME
from qxfleet.model.reading import Value


@dataclass(frozen=True, slots=True)
class UpsdAccess:
    """One NUT server, and how to reach it: ``[[upsd]]``, or nothing but host and port for one that is read in clear text.

    ``tls`` without ``ca_file`` and ``pin`` trusts what the machine trusts; ``pin`` is the SHA-256 of the server's certificate in
    lower-case hexadecimal digits. Files are read at every connect.
    """

    host: str
    port: int = 3493
    user_file: str = ""
    password_file: str = ""
    tls: bool = False
    ca_file: str = ""
    pin: str = ""


@dataclass(frozen=True, slots=True)
class UpsOptions:
    """One ``[[ups]]`` block. Units stand in the names; meanings and defaults are the seeds' (engine.md section 10)."""

    name: str
    port: str
    dialect: str = "auto"
    groups: tuple[str, ...] = ()
    description: str = ""
    poll_interval_s: float = 2.0
    full_interval_s: float = 30.0
    ondelay_s: int = 180
    offdelay_s: int = 30
    stayoff: bool = False
    norating: bool = False
    novendor: bool = False
    ignoresab: bool = False
    ignorelb: bool = False
    cablepower: str = "normal"
    runtimecal: tuple[float, float, float, float] | None = None
    chargetime_s: float = 43200.0
    idleload_percent: float = 10.0
    defaults: Mapping[str, Value] = field(default_factory=dict)
    overrides: Mapping[str, Value] = field(default_factory=dict)
    device_settings: Mapping[str, str] = field(default_factory=dict)
    """Settings the device is to have, by the seeds' option name (``eco_mode`` → ``enabled``, ``reset_to_default`` → ``yes``).

    Applied once per contact, and only where the device stands otherwise; nothing else is ever written at start.
    """
    testing: bool = False
    """Ask questions whose meaning is not known (the seeds' ``testing``)."""
    inverter_settings: bool = False
    """Let an inverter's settings be changed: they move loads and batteries."""
    usb: Mapping[str, str] = field(default_factory=dict)
    """What picks the device of port ``auto``, under the seeds' own names (engine.md section 10.2)."""
    upsd: UpsdAccess | None = None
    """The server of a port ``nut://…``; None: by the port alone, in clear text and without a user."""

    @property
    def spoken(self) -> str:
        """The dialect that is named, or that the port brings with it; ``auto``: to be found out."""
        return "nut" if self.dialect == "auto" and self.port.startswith(SCHEME) else self.dialect

    @property
    def urgent_interval_s(self) -> float:
        """Pace while on battery, under test, or with an order to confirm."""
        return min(1.0, self.poll_interval_s)
