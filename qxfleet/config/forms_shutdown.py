"""The forms of values that only ``[[load]]`` and ``[shutdown]`` have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from qxfleet.config.durations import duration_text
from qxfleet.config.findings import toml_text
from qxfleet.config.forms import Duration, Form

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^][:/\s]+)):([0-9]{1,5})")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")


@dataclass(frozen=True)
class Limit(Form):
    """A number with its bounds, or false: never by this."""

    low: float
    high: float
    unit: str

    @property
    def words(self) -> str:
        """The range."""
        return f"number from {self.low:g} to {self.high:g} {self.unit}, or false for never"

    def read(self, value: object) -> float | Literal[False]:
        """The number, or False."""
        if value is False:
            return False
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"expected a {self.words}, found {toml_text(value)}{self._remedy(value)}")
        return float(value)

    def _remedy(self, value: object) -> str:
        bare = value.rstrip("% °C") if isinstance(value, str) else ""
        return f": write {bare}" if bare.replace(".", "", 1).isdecimal() else ""


@dataclass(frozen=True)
class Span(Form):
    """A duration, or false: never by this; with ``auto``, that word too."""

    low: float
    high: float
    auto: bool = False

    @property
    def words(self) -> str:
        """The form with its range."""
        auto = '"auto" (the latest safe moment), or ' if self.auto else ""
        return f"{auto}duration, {duration_text(self.low)} to {duration_text(self.high)}, or false for never"

    def read(self, value: object) -> float | Literal["auto", False]:
        """Seconds, ``auto``, or False."""
        if value is False:
            return False
        if self.auto and value == "auto":
            return "auto"
        if self.auto and not isinstance(value, str):
            raise ValueError(f'expected "auto" or a duration as in "8m", found {toml_text(value)}')
        return Duration(self.low, self.high).read(value)


class Argv(Form):
    """A program and its arguments."""

    words = 'list of program and arguments, as in ["ssh", "root@db-1", "systemctl poweroff"]'

    def read(self, value: object) -> tuple[str, ...]:
        """The words of the command."""
        if isinstance(value, str):
            parts = ", ".join(toml_text(part) for part in value.split())
            raise ValueError(f"expected a {self.words}; no shell reads it, found {toml_text(value)}: write [{parts}]")
        if not isinstance(value, list) or not value or not all(isinstance(part, str) for part in value):
            raise ValueError(f"expected a {self.words}, found {toml_text(value)}")
        if not value[0] or any("\0" in part for part in value):
            raise ValueError(f"expected a program's name first, found {toml_text(value)}")
        return tuple(value)


class Url(Form):
    """Where a webhook is."""

    words = 'URL, as in "https://host/path"'

    def read(self, value: object) -> str:
        """The URL as written."""
        if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/?#]+([/?#]\S*)?", value):
            remedy = f': write "https://{value}"' if isinstance(value, str) and re.fullmatch(r"[\w.-]+(/\S*)?", value) else ""
            raise ValueError(f"expected a {self.words}, found {toml_text(value)}{remedy}")
        return value


class TcpAddress(Form):
    """A host and a port."""

    words = '"host:port", as in "db-1:22" or "[2001:db8::7]:22"'

    def read(self, value: object) -> tuple[str, int]:
        """Host, without brackets, and port."""
        match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            remedy = f': write "{value}:22" for ssh' if isinstance(value, str) and re.fullmatch(r"[\w.-]+", value) else ""
            raise ValueError(f"expected {self.words}, found {toml_text(value)}{remedy}")
        if not 1 <= int(match[3]) <= 65535:
            raise ValueError(f"expected a port number from 1 to 65535, found {match[3]} in {toml_text(value)}")
        return match[1] or match[2], int(match[3])


class Mac(Form):
    """A network card's address."""

    words = 'six pairs of hexadecimal digits, as in "52:54:00:12:34:56"'

    def read(self, value: object) -> str:
        """The address in small letters, with colons."""
        if not isinstance(value, str) or not _MAC.fullmatch(value):
            raise ValueError(f"expected {self.words}, found {toml_text(value)}")
        return value.lower().replace("-", ":")


@dataclass(frozen=True)
class Count(Form):
    """A whole number with its bounds."""

    low: int
    high: int

    @property
    def words(self) -> str:
        """The range."""
        return f"whole number from {self.low} to {self.high}"

    def read(self, value: object) -> int:
        """The number."""
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError(f"expected a {self.words}, found {toml_text(value)}")
        return value
