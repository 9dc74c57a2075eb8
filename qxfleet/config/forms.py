"""The forms a value can take in the file: each knows what it expects, in words, and reads it."""

from __future__ import annotations

import pwd
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from qxfleet.config.durations import LONGEST_S, duration_text, parse_duration
from qxfleet.config.findings import did_you_mean, toml_text
from qxfleet.dialects.registry import dialect_named, names
from qxfleet.model.nut_port import SCHEME, nut_port, nut_server

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SOCKET = re.compile(r"(socket|rfc2217)://(\[[0-9A-Fa-f:.]+\]|[^][:/?#@\s]+):([0-9]{1,5})/?")
_DATABASE = re.compile(r"([a-z0-9+]+)://(.*)", re.DOTALL)

SOCKET_BYTES = 107
"""The longest path the system takes for a unix socket (unix(7), sun_path)."""


class Form:
    """A form: ``words`` says what is expected; ``read`` returns the value or raises ValueError with the remedy."""

    @property
    def words(self) -> str:
        """What is accepted."""
        raise NotImplementedError

    def read(self, value: object) -> object:
        """The value as the program uses it."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)


@dataclass(frozen=True)
class Duration(Form):
    """Seconds between ``low`` and ``high``, from a duration.

    ``bare`` (the seeds' own options): a plain number counts as seconds. ``whole``: an int is returned, and parts
    of a second are refused.
    """

    low: float = 0
    high: float = LONGEST_S
    bare: bool = False
    whole: bool = False

    @property
    def words(self) -> str:
        """The form with its range."""
        kind = "duration, or a number of seconds" if self.bare else "duration"
        return f"{kind}, {duration_text(self.low)} to {duration_text(self.high)}"

    def read(self, value: object) -> float:
        """Seconds."""
        if isinstance(value, str):
            seconds = parse_duration(value)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f'expected a duration as in "30s" or "5m", found {toml_text(value)}')
        elif not self.bare:
            raise ValueError(f'expected a duration with its unit, found {value}: write "{value}s" for seconds')
        else:
            seconds = value
        if not self.low <= seconds <= self.high:
            raise ValueError(
                f"expected {duration_text(self.low)} to {duration_text(self.high)} "
                f"({self.low:g} to {self.high:g} seconds), found {toml_text(value)}"
            )
        if not self.whole:
            return float(seconds)
        if seconds != int(seconds):
            raise ValueError(f"expected whole seconds, found {toml_text(value)}")
        return int(seconds)


@dataclass(frozen=True)
class Keep(Form):
    """How long something is kept: whole seconds from a duration of a day or more, None from ``"forever"``."""

    words = 'duration, 1d to 36500d, or "forever"'

    def read(self, value: object) -> float | None:
        """Seconds; None: for ever."""
        return None if value == "forever" else Duration(86_400).read(value)

    @staticmethod
    def text(seconds: float | None) -> str:
        """As it is written in the file."""
        return "forever" if seconds is None else duration_text(seconds)


@dataclass(frozen=True)
class Name(Form):
    """A name in the fleet."""

    reserved: tuple[str, ...] = ()
    words = "1 to 64 of a-z A-Z 0-9 . _ -"

    def read(self, value: object) -> str:
        """The name."""
        if not isinstance(value, str):
            raise ValueError(f"expected a name in quotes, found {toml_text(value)}")
        if not _NAME.fullmatch(value):
            fixed = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("-")[:64]
            remedy = f': write "{fixed}"' if fixed else ""
            raise ValueError(f"expected {self.words}, found {toml_text(value)}{remedy}")
        if value in self.reserved:
            raise ValueError(f'"{value}" stands for every UPS on the command line: choose another name')
        return value


class Port(Form):
    """Where a UPS is; only the form is checked, since an adapter may be unplugged while its configuration is right."""

    words = 'absolute path, "socket://host:port", "rfc2217://host:port", "auto" (USB), or "nut://host:port/name"'

    def read(self, value: object) -> str:
        """The port as written."""
        if not isinstance(value, str):
            raise ValueError(f"expected {self.words}, found {toml_text(value)}")
        if value == "auto":
            return value
        if value.startswith("/"):
            if value.endswith("/") or "\0" in value:
                raise ValueError(f"expected the path of a device, found {toml_text(value)}")
            return value
        if value.startswith(SCHEME):
            try:
                return str(nut_port(value))
            except ValueError as error:
                raise ValueError(f"{error}, found {toml_text(value)}") from None
        match = _SOCKET.fullmatch(value)
        if match is not None:
            if not 1 <= int(match[3]) <= 65535:
                raise ValueError(f"expected a port number from 1 to 65535, found {match[3]} in {toml_text(value)}")
            return value
        raise ValueError(f"expected {self.words}, found {toml_text(value)}{self._remedy(value)}")

    @staticmethod
    def _remedy(value: str) -> str:
        scheme, mark, rest = value.partition("://")
        if mark:
            if scheme in ("socket", "rfc2217"):
                return f': host and port are needed, and nothing else, as in "{scheme}://192.0.2.7:4001"'
            return f': write "socket://{rest}"' if scheme in ("tcp", "telnet", "raw") else ""
        if value.lower().startswith("usb"):
            return ': write "auto"'
        bare = value.removeprefix("dev/")
        return f': write "/dev/{bare}"' if re.fullmatch(r"(tty|serial/|cu)[A-Za-z0-9/._:-]*", bare) else ""


class NutServer(Form):
    """A NUT server."""

    words = '"host" or "host:port"'

    def read(self, value: object) -> str:
        """The server as written."""
        if not isinstance(value, str):
            raise ValueError(f"expected {self.words}, found {toml_text(value)}")
        try:
            nut_server(value)
        except ValueError as error:
            raise ValueError(f"{error}, found {toml_text(value)}") from None
        return value


class Pin(Form):
    """The SHA-256 of a certificate."""

    words = "64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them"

    def read(self, value: object) -> str:
        """The digits in lower case, without colons."""
        digits = value.replace(":", "").lower() if isinstance(value, str) else ""
        if not re.fullmatch(r"[0-9a-f]{64}", digits):
            raise ValueError(f"expected {self.words}, found {toml_text(value)}")
        return digits


class DialectName(Form):
    """A dialect of the registry, under its own spelling, or ``auto``."""

    @property
    def words(self) -> str:
        """The names."""
        return ", ".join(f'"{name}"' for name in ("auto", *sorted(names())))

    def read(self, value: object) -> str:
        """The registry's name."""
        if not isinstance(value, str):
            raise ValueError(f"expected the name of a dialect in quotes, found {toml_text(value)}")
        if value.lower() == "auto":
            return "auto"
        dialect = dialect_named(value)
        if dialect is not None:
            return dialect.name
        guess = did_you_mean(value, names())
        raise ValueError(f"expected {self.words}, found {toml_text(value)}{guess}")


class StatePath(Form):
    """The path of the state's SQLite file."""

    words = "path of a file"

    def read(self, value: object) -> str:
        """The path as written."""
        if not isinstance(value, str):
            raise ValueError("expected the path of a file in quotes")
        if value.startswith("sqlite:"):
            path = value.partition(":///")[2].partition("?")[0]
            raise ValueError(f'expected a path, not a URL: write "{path or "/var/lib/qxfleet/state.db"}"')
        if "://" in value:
            raise ValueError("the state is a file beside the agent: write its path, and the server under [fleet] database")
        if not value or value.endswith("/"):
            raise ValueError('expected the path of a file, as in "/var/lib/qxfleet/state.db"')
        return value


class UserName(Form):
    """A user of this machine."""

    words = "name of a user"

    def read(self, value: object) -> str:
        """The name, of a user that is there."""
        if not isinstance(value, str) or not value:
            raise ValueError("expected the name of a user of this machine in quotes")
        try:
            pwd.getpwnam(value)
        except KeyError:
            remedy = f"make one (adduser --system {value}), or leave the key out"
            raise ValueError(f"this machine has no user {value}: {remedy}") from None
        return value


class Database(Form):
    """A database URL; what follows the scheme may hold a password and is never shown."""

    words = '"sqlite:////path/file.db" or "postgresql+psycopg://user@host/name"'
    _near: ClassVar = {"postgres": "postgresql", "pg": "postgresql", "psql": "postgresql", "sqlite3": "sqlite"}

    def read(self, value: object) -> str:
        """The URL, its driver named; a relative SQLite path stays relative."""
        if not isinstance(value, str):
            raise ValueError(f"expected a database URL in quotes, {self.words}")
        match = _DATABASE.fullmatch(value)
        if match is None:
            remedy = f': write "sqlite:///{value}"' if re.fullmatch(r"[\w./-]+", value) else ""
            raise ValueError(f"expected a database URL, {self.words}{remedy}")
        scheme, rest = match.groups()
        if scheme == "sqlite":
            path = rest.removeprefix("/").partition("?")[0]
            if not rest.startswith("/"):
                raise ValueError('expected "sqlite:///" (three slashes) and a path; an absolute path makes it four')
            if path in ("", ":memory:"):
                raise ValueError("a database in memory forgets everything at the next start: name a file, "
                                 '"sqlite:////var/lib/qxfleet/state.db"')  # fmt: skip
            return value
        if scheme in ("postgresql", "postgresql+psycopg"):
            if not rest:
                raise ValueError('nothing behind "://": write postgresql+psycopg://user@host/name')
            return f"postgresql+psycopg://{rest}"
        family = scheme.partition("+")[0]
        near = self._near.get(family, family)
        remedy = ': write "postgresql+psycopg://…"' if near == "postgresql" else ""
        remedy = remedy or (': write "sqlite:///…"' if near == "sqlite" else "")
        raise ValueError(f'expected {self.words}; "{scheme}://" is not one of them{remedy}')


class FleetDatabase(Database):
    """The URL of a PostgreSQL database."""

    words = '"postgresql+psycopg://user@host/name"'

    def read(self, value: object) -> str:
        """The URL, its driver named."""
        if isinstance(value, str) and value.startswith("sqlite"):
            raise ValueError(f"the fleet's database is PostgreSQL, {self.words}; a SQLite file belongs in [agent] state")
        return super().read(value)


class SocketPath(Form):
    """A unix socket's path."""

    words = f"path of a unix socket, at most {SOCKET_BYTES} bytes"

    def read(self, value: object) -> str:
        """The path as written."""
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(f"expected a path in quotes, found {toml_text(value)}")
        if "://" in value:
            raise ValueError(f"expected the path of a unix socket, found {toml_text(value)}: write a path")
        return value


@dataclass(frozen=True)
class Regex(Form):
    """A regular expression that must match the whole text; ``hexadecimal``: four hexadecimal digits, as USB ids are."""

    hexadecimal: bool = False

    @property
    def words(self) -> str:
        """The form."""
        return "regular expression, whole match" + (" on 4 hexadecimal digits" if self.hexadecimal else "")

    def read(self, value: object) -> str:
        """The expression as written."""
        if not isinstance(value, str):
            remedy = f': write "{value:04x}"' if self.hexadecimal and type(value) is int and 0 <= value < 65536 else ""
            raise ValueError(f"expected a regular expression in quotes, found {toml_text(value)}{remedy}")
        if not value:
            raise ValueError("an empty expression matches nothing: remove it")
        if "[[:" in value:
            raise ValueError(f"classes like [[:digit:]] are not known here, found {toml_text(value)}: write [0-9]")
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error} in {toml_text(value)}") from None
        if self.hexadecimal and value.lower().startswith("0x"):
            raise ValueError(f'expected 4 hexadecimal digits without 0x, found {toml_text(value)}: write "{value[2:]}"')
        if self.hexadecimal and re.fullmatch(r"[0-9A-Za-z]+", value) and not re.fullmatch(r"[0-9A-Fa-f]{4}", value):
            raise ValueError(f"expected 4 hexadecimal digits, found {toml_text(value)}")
        return value


BRIDGES = (
    "phoenix", "ippon", "cypress", "krauler", "ablerex", "armac", "fabula", "fuji", "gtec", "hunnox", "omron", "phoenixtec",
    "sgs", "snr",
)  # fmt: skip
"""Names of ``subdriver``; a test compares them with the bridges there are."""


class LanguageId(Form):
    """The language id of bridges that answer in string descriptors."""

    words = '"0x409" or "0x4095"'

    def read(self, value: object) -> str:
        """The id as text."""
        text = f"0x{value:x}" if type(value) is int else value.lower() if isinstance(value, str) else ""
        if text not in ("0x409", "0x4095"):
            raise ValueError(f"expected {self.words}, found {toml_text(value)}")
        return text


class UsbBridge(Form):
    """A USB bridge by name, in any case: the seeds' four first, then those of later versions of NUT."""

    words = ", ".join(f'"{name}"' for name in BRIDGES[:-1]) + f' or "{BRIDGES[-1]}"'

    def read(self, value: object) -> str:
        """The name in small letters."""
        if not isinstance(value, str) or value.lower() not in BRIDGES:
            hint = did_you_mean(value, BRIDGES) if isinstance(value, str) else ""
            raise ValueError(f"expected {self.words}, found {toml_text(value)}{hint}")
        return value.lower()


class UsbPath(Form):
    """A place on the USB buses, as the kernel writes it."""

    words = 'bus and ports, as in "1-1.4"; `qxfleet discover` lists them'

    def read(self, value: object) -> str:
        """The place as written."""
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]+-[0-9]+(\.[0-9]+)*", value):
            raise ValueError(f"expected {self.words}, found {toml_text(value)}")
        return value


class RuntimeCal(Form):
    """Two runtimes and the loads they belong to; the checks of engine.md section 8.5, equal loads refused as well."""

    words = "[seconds, load %, seconds, load %]: the runtimes at a higher and at a lower load"
    example = "runtimecal = [240, 100, 720, 50]"

    def read(self, value: object) -> tuple[float, float, float, float]:
        """Seconds, percent, seconds, percent."""
        if isinstance(value, str):
            raise ValueError(f"expected a list of four numbers, found text: write {self._listed(value)}")
        numbers = [item for item in value if _is_number(item)] if isinstance(value, list) else []
        if not isinstance(value, list) or len(numbers) != 4 or len(value) != 4:
            raise ValueError(f"expected four numbers, as in {self.example}, found {toml_text(value)}")
        t1, l1, t2, l2 = (float(number) for number in numbers)
        wrong: list[str] = []
        if t1 <= 0:
            wrong.append(f"the first runtime must be above 0, found {t1:g}")
        if t2 < t1:
            wrong.append(f"the second runtime ({t2:g}) must not be below the first ({t1:g}): less load runs longer")
        if l1 > 100:
            wrong.append(f"the first load must be at most 100 %, found {l1:g}")
        if l2 <= 0:
            wrong.append(f"the second load must be above 0 %, found {l2:g}")
        if l1 == l2:
            wrong.append(f"the two loads must differ, both are {l1:g} %")
        if l2 > l1:
            wrong.append(f"the first load ({l1:g} %) must be the higher one, the second is {l2:g} %")
        if wrong:
            raise ValueError(f"{'; '.join(wrong)} (form: {self.example})")
        return t1, l1, t2, l2

    def _listed(self, text: str) -> str:
        numbers = [part.strip() for part in text.split(",")]
        well = len(numbers) == 4 and all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", number) for number in numbers)
        return f"runtimecal = [{', '.join(numbers)}]" if well else self.example


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


