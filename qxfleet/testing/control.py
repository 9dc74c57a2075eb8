"""The simulator's own control: one instruction a line on a unix socket, so that a user can play an outage.

An answer is any number of lines that begin with two blanks, then one that begins with ``ok`` or ``error``.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from qxfleet.errors import AgentUnreachable, LinkUnavailable
from qxfleet.testing.farm import Farm
from qxfleet.testing.hosts import Hosts
from qxfleet.testing.unit import FAULT_VALUES, Fault, Unit
from qxfleet.testing.voltronic.state import WARNING_BITS
from qxfleet.testing.voltronic.ups import VoltronicUps

INSTRUCTIONS = (
    ("mains off|on|VOLTS TARGET", "an outage, its end, or a brown-out: mains 198 ups-01"),
    ("load PERCENT TARGET", "the load that the UPS feeds"),
    ("battery PERCENT TARGET", "the battery's charge"),
    ("age YEARS TARGET", "the battery's age"),
    ("bypass on|off TARGET", "by hand, as a technician would"),
    ("fault KIND [VALUE] TARGET", "break it: " + ", ".join(fault.value for fault in Fault)),
    ("fault clear [KIND] TARGET", "repair it"),
    ("warning BIT TARGET", "raise a warning of a voltronic unit: warning 56 ups-01"),
    ("warning clear [BIT] TARGET", "take it back, or all of them"),
    ("fault-code CODE TARGET", "the fault a voltronic unit stands in: fault-code 43 ups-01"),
    ("fault-code clear TARGET", "its end"),
    ("panel SETTING TARGET", "change a voltronic unit at its front panel, spelled as on the wire: panel PEE ups-01"),
    ("unplug TARGET / replug TARGET", "the serial cable"),
    ("host stop|start NAME", "as an operator would; only with --hosts, as all about hosts"),
    ("host down NAME", "ok if it is down, else an error"),
    ("host hang|refuse|sleep NAME", "it never stops, lets nobody in, does not wake up"),
    ("host heal NAME", "the end of that"),
    ("hosts", "how they are"),
    ("speed FACTOR", "seconds that pass for the UPSes in one second"),
    ("show [TARGET]", "how they are"),
    ("log NAME", "the last requests it received"),
    ("quit", "end the simulator"),
)
"""Every instruction and what it does. TARGET is a UPS's name, ``group:NAME`` or ``all``."""


class Control:
    """Answers instructions for one farm on ``DIR/control``; :attr:`quit` is set by ``quit``.

    Use as ``async with``, around the farm's own, so that a second simulator never touches the first one's links.
    """

    def __init__(self, farm: Farm, hosts: Hosts | None = None) -> None:
        self.path = control_path(farm.directory)
        self.quit = asyncio.Event()
        self._farm = farm
        self._verbs: dict[str, Callable[[list[str]], list[str]]] = {
            "mains": self._mains,
            "load": self._load,
            "battery": self._battery,
            "age": self._age,
            "bypass": self._bypass,
            "fault": self._fault,
            "warning": self._warning,
            "fault-code": self._fault_code,
            "panel": self._panel,
            "unplug": self._unplug,
            "replug": self._replug,
            "speed": self._speed,
            "show": self._show,
            "log": self._log,
            "quit": self._quit,
        }
        if hosts is not None:
            self._verbs |= {"host": hosts.perform, "hosts": lambda _: [*hosts.show(), "ok"]}

    async def __aenter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._take_path()
        try:
            self._server = await asyncio.start_unix_server(self._serve, self.path)
        except OSError as error:
            raise LinkUnavailable(str(self.path), str(error), "take a directory with a shorter path") from error
        self.path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.path.unlink(missing_ok=True)

    def perform(self, instruction: str) -> list[str]:
        """Carry out one instruction; the lines of its answer."""
        verb, *words = instruction.split() or [""]
        action = self._verbs.get(verb)
        if action is None:
            return [f"error no instruction {verb!r}; expected one of {', '.join(self._verbs)}"]
        try:
            return action(words)
        except (ValueError, LookupError, LinkUnavailable) as error:
            return [f"error {error}"]

    def _take_path(self) -> None:
        """Remove what a simulator that was killed left behind; a living one keeps its directory."""
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(str(self.path))
            except OSError:
                self.path.unlink(missing_ok=True)
                return
        raise LinkUnavailable(
            str(self.path), "another simulator serves this directory", "end it, or take another directory"
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write("".join(f"{text}\n" for text in self.perform(line.decode(errors="replace"))).encode())
                await writer.drain()
        except (ConnectionError, ValueError):  # the other side left, or sent a line without end
            pass
        finally:
            writer.close()

    # -- instructions ------------------------------------------------------------------------------------------------

    def _mains(self, words: list[str]) -> list[str]:
        how, target = _two(words, "mains off|on|VOLTS TARGET")
        chosen = self._farm.select(target)
        for ups in chosen:
            nominal = ups.machine.ratings.volts
            volts = {"off": 0.0, "on": nominal}.get(how)
            ups.machine.set_mains(_number(how, 0, 400, "volts, on or off") if volts is None else volts)
        return [_done(chosen, f"mains {how}")]

    def _load(self, words: list[str]) -> list[str]:
        percent, target = _two(words, "load PERCENT TARGET")
        chosen, load = self._farm.select(target), _number(percent, 0, 200, "percent")
        for ups in chosen:
            ups.machine.load_percent = load
        return [_done(chosen, f"load {load:g} %")]

    def _battery(self, words: list[str]) -> list[str]:
        percent, target = _two(words, "battery PERCENT TARGET")
        chosen, charge = self._farm.select(target), _number(percent, 0, 100, "percent")
        for ups in chosen:
            ups.machine.battery.set_charge(charge / 100)
        return [_done(chosen, f"battery {charge:g} %")]

    def _age(self, words: list[str]) -> list[str]:
        years, target = _two(words, "age YEARS TARGET")
        chosen, age = self._farm.select(target), _number(years, 0, 20, "years")
        for ups in chosen:
            ups.machine.battery.age_years = age
        return [_done(chosen, f"battery {age:g} years old")]

    def _bypass(self, words: list[str]) -> list[str]:
        how, target = _two(words, "bypass on|off TARGET")
        if how not in ("on", "off"):
            raise ValueError(f"expected on or off, not {how!r}")
        chosen = self._farm.select(target)
        for ups in chosen:
            ups.machine.forced_bypass = how == "on"
        return [_done(chosen, f"bypass {how}")]

    def _fault(self, words: list[str]) -> list[str]:
        usage = "fault KIND [VALUE] TARGET, or fault clear [KIND] TARGET"
        if not 2 <= len(words) <= 3:
            raise ValueError(f"expected: {usage}")
        chosen = self._farm.select(words[-1])
        if words[0] == "clear":
            cleared = _fault_named(words[1]) if len(words) == 3 else None
            for ups in chosen:
                ups.clear_fault(cleared)
            return [_done(chosen, f"fault {cleared.value} cleared" if cleared else "faults cleared")]
        fault, value = _fault_named(words[0]), words[1] if len(words) == 3 else ""
        for ups in chosen:
            ups.set_fault(fault, value)
        return [_done(chosen, f"fault {_fault_text(chosen[0], fault)}")]

    def _warning(self, words: list[str]) -> list[str]:
        if not 2 <= len(words) <= 3 or (len(words) == 3 and words[0] != "clear"):
            raise ValueError("expected: warning BIT TARGET, or warning clear [BIT] TARGET")
        chosen = self._voltronic(words[-1])
        bit = None if words[:-1] == ["clear"] else int(_number(words[-2], 1, WARNING_BITS, "a warning bit"))
        for ups in chosen:
            if words[0] == "clear":
                ups.state.raised -= {bit} if bit else set(ups.state.raised)
            elif bit:
                ups.state.warn(bit)
        return [_done(chosen, f"warning {' '.join(words[:-1])}")]

    def _fault_code(self, words: list[str]) -> list[str]:
        code, target = _two(words, "fault-code CODE|clear TARGET")
        chosen = self._voltronic(target)
        for ups in chosen:
            if code == "clear":
                ups.state.repair()
            else:
                ups.state.break_down(code)
        return [_done(chosen, f"fault-code {code}")]

    def _panel(self, words: list[str]) -> list[str]:
        setting, target = _two(words, "panel SETTING TARGET")
        chosen = self._voltronic(target)
        for ups in chosen:
            if not ups.press(setting):
                raise ValueError(f"{ups.name} refuses {setting}")
        return [_done(chosen, f"panel {setting}")]

    def _voltronic(self, target: str) -> list[VoltronicUps]:
        chosen = self._farm.select(target)
        for ups in chosen:
            if not isinstance(ups, VoltronicUps):
                raise ValueError(f"{ups.name} speaks {ups.dialect.name}; only voltronic units can do that")
        return [ups for ups in chosen if isinstance(ups, VoltronicUps)]

    def _unplug(self, words: list[str]) -> list[str]:
        chosen = self._farm.select(_one(words, "unplug TARGET"))
        for ups in chosen:
            self._farm.unplug(ups.name)
        return [_done(chosen, "unplugged")]

    def _replug(self, words: list[str]) -> list[str]:
        chosen = self._farm.select(_one(words, "replug TARGET"))
        for ups in chosen:
            self._farm.plug(ups.name)
        return [_done(chosen, "plugged in")]

    def _speed(self, words: list[str]) -> list[str]:
        self._farm.speed = _number(_one(words, "speed FACTOR"), 0, 3600, "a factor")
        return [f"ok {self._farm.speed:g} seconds pass for the UPSes in one"]

    def _show(self, words: list[str]) -> list[str]:
        chosen = self._farm.select(_one(words or ["all"], "show [TARGET]"))
        return [*(f"  {self._describe(ups)}" for ups in chosen), f"ok {len(chosen)} shown"]

    def _log(self, words: list[str]) -> list[str]:
        (ups,) = self._farm.select(_one(words, "log NAME"))[:1]
        log = list(self._farm.logs[ups.name])
        total = sum(len(request) for _, request in log)
        return [*(f"  {at_s:.3f} {request!r}" for at_s, request in log), f"ok {len(log)} requests, {total} bytes"]

    def _quit(self, words: list[str]) -> list[str]:
        if words:
            raise ValueError("expected: quit")
        self.quit.set()
        return ["ok ending"]

    def _describe(self, ups: Unit) -> str:
        machine, battery = ups.machine, ups.machine.battery
        faults = " ".join(_fault_text(ups, fault).replace(" ", ":") for fault in ups.faults)
        return (
            f"{ups.name} {ups.dialect.name} source={machine.source.value} input={machine.input_v:.1f}V "
            f"output={machine.output_v:.1f}V load={machine.load_now:.0f}% battery={battery.volts:.2f}V "
            f"charge={100 * battery.charge:.0f}% age={battery.age_years:g}y bits={ups.status_bits()} "
            f"plugged={'yes' if ups.name in self._farm.lines else 'no'} faults={faults or 'none'}{_voltronic_state(ups)}"
        )


def control_path(directory: Path) -> Path:
    """The socket of the simulator that serves ``directory``."""
    return directory.absolute() / "control"


def tell(directory: Path, instruction: str, timeout_s: float = 5.0) -> list[str]:
    """Send one instruction to the running simulator of ``directory``; its answer's lines, ``ok …`` or ``error …`` last.

    Raises AgentUnreachable if none runs there.
    """
    path = control_path(directory)
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(timeout_s)
        try:
            link.connect(str(path))
            link.sendall(" ".join(instruction.split()).encode() + b"\n")
            with link.makefile(encoding="utf-8") as stream:
                lines: list[str] = []
                for line in stream:
                    lines.append(line.rstrip("\n"))
                    if not line.startswith("  "):
                        return lines
        except OSError as error:
            raise AgentUnreachable(f"{path}: no simulator answers there ({error})") from error
    raise AgentUnreachable(f"{path}: the simulator hung up without an answer")


def _one(words: list[str], usage: str) -> str:
    if len(words) != 1:
        raise ValueError(f"expected: {usage}")
    return words[0]


def _two(words: list[str], usage: str) -> tuple[str, str]:
    if len(words) != 2:
        raise ValueError(f"expected: {usage}")
    return words[0], words[1]


def _number(text: str, low: float, high: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"expected {what} from {low:g} to {high:g}, not {text!r}")
    return value


def _fault_named(name: str) -> Fault:
    try:
        return Fault(name)
    except ValueError:
        raise ValueError(f"no fault {name!r}; expected one of {', '.join(fault.value for fault in Fault)}") from None


def _voltronic_state(ups: Unit) -> str:
    if not isinstance(ups, VoltronicUps):
        return ""
    state = ups.state
    warnings = ",".join(str(bit) for bit in sorted(state.warnings())) or "none"
    return f" protocol={state.model.protocol} mode={state.mode()} warnings={warnings} fault-code={state.fault_code or 'none'}"


def _fault_text(ups: Unit, fault: Fault) -> str:
    return f"{fault.value} {ups.faults[fault]}" if fault in FAULT_VALUES else fault.value


def _done(chosen: Sequence[Unit], what: str) -> str:
    names = ", ".join(ups.name for ups in chosen[:6]) + (f" and {len(chosen) - 6} more" if len(chosen) > 6 else "")
    return f"ok {what}: {names}"
