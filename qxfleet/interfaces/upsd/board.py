"""What clients may read: UPSes, variables, their types and descriptions, commands, all in the protocol's lines."""

from __future__ import annotations

from dataclasses import dataclass

from qxfleet import __version__
from qxfleet.agent.fleet import Fleet
from qxfleet.agent.forced import Client, ForcedShutdown
from qxfleet.api.shapes import variable_texts
from qxfleet.dialects.registry import EVERY_DIALECT
from qxfleet.interfaces.upsd.protocol import Code, Refused, framed, line
from qxfleet.model.events import Link, SettingInfo
from qxfleet.model.state import DeviceState
from qxfleet.model.variables import VARIABLES, Kind, value_text

INFO = f"qxfleet {__version__} - https://qxfleet.readthedocs.io/"

TEXT_LENGTH = 255
"""Characters a text may have; NUT's own limit for ``ups.alarm`` and most others."""

UNAVAILABLE = "Description unavailable"

COMMANDS = {order.name: order.description for dialect in EVERY_DIALECT for order in dialect.orders} | {
    "shutdown.default": "what a shutdown of this UPS is by its options: shutdown.return or shutdown.stayoff",
}

_SETTABLE = frozenset(
    [setting.name for dialect in EVERY_DIALECT for setting in dialect.settings]
    + [setting.name for dialect in EVERY_DIALECT for setting in dialect.device_settings]
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One state as it is told: rendered once, however many ask."""

    state: DeviceState
    forced: bool
    texts: dict[str, str]
    block: bytes


class Board:
    """Answers GET and LIST from the fleet's latest states. Call on the loop."""

    def __init__(self, fleet: Fleet, forced: ForcedShutdown) -> None:
        self._fleet = fleet
        self._forced = forced
        self._shown: dict[tuple[str, bool], Shown] = {}
        self._any_case: dict[str, str] = {}
        self._upses = b""
        self.renew()

    def renew(self) -> None:
        """The fleet has other UPSes than before, or they have other descriptions."""
        names = tuple(self._fleet.snapshot())
        self._shown.clear()
        self._any_case = {name.lower(): name for name in reversed(names)}
        described = (line(f"UPS {name}", self._fleet.options(name).description or UNAVAILABLE) for name in names)
        self._upses = framed("UPS", "".join(described))

    # -- UPSes

    def ups(self, asked: str) -> str:
        """The UPS of that name, in any case. Raises Refused."""
        if asked in self._fleet.snapshot():
            return asked
        name = self._any_case.get(asked.lower())
        if name is None or name not in self._fleet.snapshot():
            raise Refused(Code.UNKNOWN_UPS)
        return name

    def available(self, name: str) -> DeviceState:
        """The state of a UPS there is contact with. Raises Refused, as upsd does without a driver or with one that is stale."""
        state = self._fleet.snapshot()[name]
        if state.reading is None:
            raise Refused(Code.DRIVER_NOT_CONNECTED)
        if state.link is not Link.ONLINE:
            raise Refused(Code.DATA_STALE)
        return state

    def upses(self) -> bytes:
        """LIST UPS."""
        return self._upses

    def ups_description(self, asked: str) -> bytes:
        """GET UPSDESC."""
        return line(f"UPSDESC {asked}", self._fleet.options(self.ups(asked)).description or "Unavailable").encode()

    # -- variables

    def shown(self, name: str, client: Client) -> Shown:
        """The variables of a UPS as this client is to see them. Raises Refused."""
        state = self.available(name)
        forced = bool(self._forced.all()) and self._forced.is_set(name, client)
        shown = self._shown.get((name, forced))
        if shown is None or shown.state is not state:
            shown = self._shown[name, forced] = _render(name, state, forced)
        return shown

    def variables(self, asked: str, client: Client) -> bytes:
        """LIST VAR."""
        name = self.ups(asked)
        shown = self.shown(name, client)
        return shown.block if name == asked else _block(asked, shown.texts)

    def variable(self, asked: str, variable: str, client: Client) -> bytes:
        """GET VAR."""
        key = variable.lower()
        if key in ("server.info", "server.version"):
            value = INFO if key == "server.info" else __version__
        else:
            value = self._value(self.ups(asked), key, client)
        return line(f"VAR {asked} {variable}", value).encode()

    def has_variable(self, name: str, variable: str, client: Client) -> bool:
        """Whether a UPS tells this variable now. Raises Refused without contact."""
        return variable.lower() in self.shown(name, client).texts

    def _value(self, name: str, key: str, client: Client) -> str:
        """A variable's text; that of a setting as it was set, which the next reading has only a moment later."""
        value = self.shown(name, client).texts.get(key)
        if key in _SETTABLE and (setting := self.setting(name, key)) is not None:
            value = value if setting.value is None else value_text(key, setting.value)
        if value is None:
            raise Refused(Code.VAR_NOT_SUPPORTED)
        return value

    # -- settings

    def setting(self, name: str, variable: str) -> SettingInfo | None:
        """What may be written into a variable; None if nothing."""
        return next((each for each in self._fleet.settings(name) if each.name == variable.lower()), None)

    def settings(self, asked: str) -> bytes:
        """LIST RW."""
        name = self.ups(asked)
        self.available(name)
        known = sorted((each for each in self._fleet.settings(name) if each.value is not None), key=lambda each: each.name)
        return framed(f"RW {asked}", "".join(line(f"RW {asked} {each.name}", _setting_text(each)) for each in known))

    def choices(self, asked: str, variable: str, client: Client) -> bytes:
        """LIST ENUM."""
        setting = self._known(asked, variable, client)
        chosen = setting.choices if setting else ()
        return framed(f"ENUM {asked} {variable}", "".join(line(f"ENUM {asked} {variable}", each) for each in chosen))

    def ranges(self, asked: str, variable: str, client: Client) -> bytes:
        """LIST RANGE."""
        setting = self._known(asked, variable, client)
        text = ""
        if setting is not None and setting.low is not None and setting.high is not None:
            text = f'RANGE {asked} {variable} "{setting.low:.10g}" "{setting.high:.10g}"\n'
        return framed(f"RANGE {asked} {variable}", text)

    def type(self, asked: str, variable: str, client: Client) -> bytes:
        """GET TYPE."""
        setting = self._known(asked, variable, client)
        words = ["TYPE", asked, variable]
        if setting is not None:
            words += ["RW"]
            words += ["ENUM"] if setting.choices else []
            words += ["RANGE"] if setting.low is not None and setting.high is not None else []
        listed = VARIABLES.get(variable.lower())
        number = listed is not None and listed.kind is Kind.NUMBER
        words.append("NUMBER" if number else f"STRING:{TEXT_LENGTH}")
        return f"{' '.join(words)}\n".encode()

    def _known(self, asked: str, variable: str, client: Client) -> SettingInfo | None:
        name = self.ups(asked)
        self._value(name, variable.lower(), client)
        return self.setting(name, variable)

    # -- words

    def description(self, asked: str, variable: str) -> bytes:
        """GET DESC."""
        self.available(self.ups(asked))
        listed = VARIABLES.get(variable.lower())
        return line(f"DESC {asked} {variable}", (listed.description if listed else "") or UNAVAILABLE).encode()

    def command_description(self, asked: str, command: str) -> bytes:
        """GET CMDDESC."""
        self.available(self.ups(asked))
        return line(f"CMDDESC {asked} {command}", COMMANDS.get(command.lower()) or UNAVAILABLE).encode()

    def commands(self, asked: str) -> bytes:
        """LIST CMD."""
        name = self.ups(asked)
        self.available(name)
        names = sorted(order.name for order in self._fleet.orders(name))
        return framed(f"CMD {asked}", "".join(f"CMD {asked} {each}\n" for each in names))


def _render(name: str, state: DeviceState, forced: bool) -> Shown:
    texts = variable_texts(state, forced=forced)
    return Shown(state, forced, texts, _block(name, texts))


def _block(asked: str, texts: dict[str, str]) -> bytes:
    return framed(f"VAR {asked}", "".join(line(f"VAR {asked} {key}", value) for key, value in texts.items()))


def _setting_text(setting: SettingInfo) -> str:
    return "" if setting.value is None else value_text(setting.name, setting.value)
