"""Who may do what through the network faces, and where those listen: the forms of both in the file, and what they become."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from qxfleet.config.findings import did_you_mean, toml_text
from qxfleet.config.forms import Form
from qxfleet.dialects.registry import EVERY_DIALECT
from qxfleet.model import password

Right = Literal["read", "command", "set", "fsd", "test", "shutdown"]
"""``command``: instant commands; ``set``: writable variables; ``fsd``: forced shutdown of one UPS's loads; ``test``: battery
tests, and nothing else that commands can do; ``shutdown``: the staged shutdown."""

RIGHTS: tuple[str, ...] = get_args(Right)

INSTANT_COMMANDS = tuple(sorted({order.name for dialect in EVERY_DIALECT for order in dialect.orders}))

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^][:/\s]+)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a face listens; ``host`` an address or a name, without brackets."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class User:
    """One who may log in. ``kept`` is a hash or the password itself; ``instcmds`` empty: every command, if any."""

    name: str
    kept: str = field(repr=False)
    rights: frozenset[str] = frozenset({"read"})
    instcmds: tuple[str, ...] = ()
    upsmon: Literal["primary", "secondary"] | None = None

    def may(self, right: Right) -> bool:
        """Whether the user has a right; a primary of upsmon has ``fsd`` as well."""
        return right in self.rights or (right == "fsd" and self.upsmon == "primary")

    def may_command(self, name: str) -> bool:
        """Whether the user may give this instant command."""
        if self.may("test") and name.startswith("test.battery."):
            return True
        return self.may("command") and (not self.instcmds or name in self.instcmds)


class ListenAddress(Form):
    """An address to listen at."""

    words = '"address:port", as in "127.0.0.1:3493" or "[::1]:3493"'

    def read(self, value: object) -> Listen:
        """Host and port."""
        if not isinstance(value, str):
            raise ValueError(f"expected {self.words}, found {toml_text(value)}")
        match = _ADDRESS.fullmatch(value)
        if match is None:
            raise ValueError(f"expected {self.words}, found {toml_text(value)}{self._remedy(value)}")
        port = int(match[3])
        if not 1 <= port <= 65535:
            raise ValueError(f"expected a port number from 1 to 65535, found {port} in {toml_text(value)}")
        host = match[1] or match[2]
        if host == "*":
            raise ValueError('write "0.0.0.0:…" for every IPv4 address of the machine, "[::]:…" for every IPv6 address')
        if match[1] and not _is_ipv6(host):
            raise ValueError(f"expected an IPv6 address in the brackets, found {toml_text(host)}")
        if re.fullmatch(r"[0-9.]+", host) and not _is_ipv4(host):
            raise ValueError(f"expected an IPv4 address, found {toml_text(host)}")
        return Listen(host, port)

    @staticmethod
    def _remedy(value: str) -> str:
        bare = value.partition("://")[2] if "://" in value else value
        if bare != value and _ADDRESS.fullmatch(bare.rstrip("/")):
            return f': write "{bare.rstrip("/")}"'
        head, _, port = value.rpartition(":")
        if port.isdecimal() and not head:
            return f': write "127.0.0.1:{port}", or the address of the network it is for'
        if port.isdecimal() and _is_ipv6(head):
            return f': write "[{head}]:{port}"'
        return ": write the port behind it" if _is_ipv4(value) or value == "localhost" else ""


class PasswordHash(Form):
    """A password's hash."""

    words = "hash made by `qxfleet user hash`"

    def read(self, value: object) -> str:
        """The hash as written; a mistake does not repeat it."""
        if not isinstance(value, str):
            raise ValueError("expected a hash in quotes, made by `qxfleet user hash`")
        password.check_hash(value)
        return value


class InstantCommand(Form):
    """The name of an instant command of some dialect."""

    words = "name of an instant command"

    def read(self, value: object) -> str:
        """The name."""
        if value not in INSTANT_COMMANDS:
            guess = did_you_mean(value, INSTANT_COMMANDS) if isinstance(value, str) else ""
            raise ValueError(f"no dialect has a command {toml_text(value)}{guess or '; `qxfleet commands NAME` lists them'}")
        return str(value)


def _is_ipv4(text: str) -> bool:
    try:
        return ipaddress.IPv4Address(text) is not None
    except ValueError:
        return False


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text) is not None
    except ValueError:
        return False
