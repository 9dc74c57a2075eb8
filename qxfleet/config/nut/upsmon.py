"""``upsmon.conf``: the machine it runs on becomes a ``[[load]]`` with the conditions NUT had. Facts: upsmon.conf(5)."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from qxfleet.config.nut.complaints import Note
from qxfleet.config.nut.syntax import lines

HERE = frozenset({"localhost", "127.0.0.1", "::1", "localhost.localdomain"})

_QUIET = frozenset({
    "POLLFREQ", "POLLFREQALERT", "DEADTIME", "RUN_AS_USER", "FINALDELAY", "CERTPATH", "CERTVERIFY", "FORCESSL", "CERTIDENT",
    "CERTHOST", "RBWARNTIME", "NOCOMMWARNTIME", "DEBUG_MIN", "POLLFAIL_LOG_THROTTLE_MAX", "OFFDURATION",
})  # fmt: skip
"""About upsmon's own pace and connections: nothing is lost."""

_NOTES = {
    "NOTIFYCMD": "not carried over: `qxfleet events --follow --json` gives every event to a program",
    "NOTIFYFLAG": "not carried over, it belongs to NOTIFYCMD",
    "NOTIFYMSG": "not carried over, it belongs to NOTIFYCMD",
    "HOSTSYNC": "not carried over: what waits for whom is said by `after` and stop_time of each [[load]]",
    "POWERDOWNFLAG": "not carried over: [shutdown] ups_off says what becomes of the UPS",
}


@dataclass(slots=True)
class ImportedMonitor:
    """``load`` is the ``[[load]]`` of the machine, empty if it can't be told; ``shutdown`` goes with it."""

    load: dict[str, object] = field(default_factory=dict)
    shutdown: dict[str, object] = field(default_factory=dict)
    members: list[dict[str, object]] = field(default_factory=list)
    """``[[ups]]`` blocks of UPSes that other machines' upsd have."""
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Monitor:
    line: int
    ups: str
    host: str
    power: int
    primary: bool
    port: str = ""


def monitored_here(text: str) -> list[str]:
    """UPSes that this machine's upsmon watches on this machine as their primary, by name."""
    found = (_monitor(line.number, line.words[1:]) for line in lines(text) if line.words[0].upper() == "MONITOR")
    return [each.ups for each in found if each is not None and each.primary and each.power and each.host in HERE]


def import_upsmon(
    text: str, name: str, upses: Collection[str], host: str = "", *, members: bool = False
) -> ImportedMonitor:
    """The machine as a load of the UPSes it is fed by, as far as those are in ``upses``; ``host``: its name, ours by default.

    ``members``: UPSes of other machines too, by their upsd.
    """
    found = ImportedMonitor()
    monitors: list[_Monitor] = []
    supplies, command = 1, ""
    for line in lines(text):
        key, words = line.words[0].upper(), line.words[1:]
        match key:
            case "MONITOR":
                monitor = _monitor(line.number, words)
                if monitor is None:
                    text = "MONITOR: left out, expected SYSTEM POWERVALUE USER PASSWORD ROLE"
                    found.notes.append(Note(f"{name}:{line.number}", "", text))
                else:
                    monitors.append(monitor)
            case "MINSUPPLIES" if words and words[0].isdecimal():
                supplies = int(words[0])
            case "SHUTDOWNCMD" if words:
                command = " ".join(words)
            case _ if key not in _QUIET:
                text = _NOTES.get(key, "not carried over, qxfleet has nothing like it")
                if text not in (note.text.partition(": ")[2] for note in found.notes if note.text.startswith(key)):
                    found.notes.append(Note(f"{name}:{line.number}", "", f"{key}: {text}"))
    if members:
        found.members = [_member(each) for each in monitors if each.host not in HERE]
    feeds = list(_feeds(monitors, upses, name, found.notes))
    if feeds:
        _as_load(feeds, supplies, command, name, host or os.uname().nodename, found)
    return found


def _monitor(number: int, words: tuple[str, ...]) -> _Monitor | None:
    if len(words) != 5 or not words[1].isdecimal():
        return None
    ups, _, place = words[0].partition("@")
    host, _, port = place.partition(":")
    return _Monitor(number, ups, host or "localhost", int(words[1]), words[4].lower() in ("primary", "master"), port)


def _member(monitor: _Monitor) -> dict[str, object]:
    """A UPS of another machine, read from its upsd."""
    place = f"{monitor.host}:{monitor.port}" if monitor.port else monitor.host
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{monitor.ups}-{monitor.host}").strip("-")[:64]
    return {"name": own, "port": f"nut://{place}/{monitor.ups}"}


def _feeds(monitors: Iterable[_Monitor], upses: Collection[str], name: str, notes: list[Note]) -> Iterable[_Monitor]:
    """Those that feed this machine from here."""
    for each in monitors:
        if not each.primary or each.host not in HERE:
            why = "upsmon stays as it is on this machine; let it connect to the agent's [nut] listen instead of upsd"
        elif each.power == 0:
            why = "not carried over, with power value 0 it feeds something else"
        elif each.ups not in upses:
            why = f"not carried over, {each.ups} is not among the UPSes carried over"
        else:
            yield each
            continue
        notes.append(Note(f"{name}:{each.line}", each.ups, why))


def _as_load(feeds: list[_Monitor], supplies: int, command: str, name: str, host: str, found: ImportedMonitor) -> None:
    power = {each.power for each in feeds}
    needs = -(-supplies // min(power))
    if len(power) > 1 or not 1 <= needs <= len(feeds):
        needs = len(feeds)
        found.notes.append(Note(name, "", f"MINSUPPLIES {supplies}: needs_feeds counts feeds of equal worth; written as {needs}, "
                                          "correct it if fewer are enough"))  # fmt: skip
    found.load = {
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", host).strip("-")[:64] or "this-machine",
        "fed_by": [each.ups for each in feeds],
        "needs_feeds": needs,
    }
    if command:
        found.load["stop"] = {"command": shlex.split(command)}
    found.shutdown = {"host": found.load["name"], "start_when": {"low_battery": True}}
    found.notes.append(Note(name, "", "the shutdown begins at low battery, as upsmon's did, and touches nothing until it is "
                                      "armed: `qxfleet shutdown check`, then `qxfleet shutdown arm`"))  # fmt: skip
