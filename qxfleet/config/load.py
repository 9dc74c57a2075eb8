"""Files to one frozen configuration, or every mistake in all of them at once."""

from __future__ import annotations

import glob
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from qxfleet.config import reference
from qxfleet.config.batteries import read_batteries
from qxfleet.config.blocks import blocks
from qxfleet.config.faces import NO_FACES, Faces, read_faces
from qxfleet.config.findings import Findings, Place, Source, in_order, toml_text
from qxfleet.config.forms import SOCKET_BYTES
from qxfleet.config.loads import read_shutdown
from qxfleet.config.profile import Block, Profile, read_profile, warn_of_quarrels
from qxfleet.config.retention import read_retention
from qxfleet.config.schedules import Schedule, read_schedules
from qxfleet.config.schema import LATER_TABLES, AgentTable
from qxfleet.config.source import read_source
from qxfleet.config.stores import FleetSettings, read_stores
from qxfleet.config.tables import later_table, read_table, unknown_table
from qxfleet.config.ups import device_of, read_ups
from qxfleet.config.upsds import with_servers
from qxfleet.errors import ConfigError
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.loads import Plan
from qxfleet.model.options import UpsOptions
from qxfleet.model.retention import KEPT, Retention
from qxfleet.model.selftest import DEFAULT_RULES, Rules

TABLES = ("agent", "fleet", "ups", "upsd", "profile", "http", "nut", "metrics", "user", "schedule", "tests", "load", "shutdown",
          "retention", "battery")  # fmt: skip
"""Names that may stand at the top of a file."""

ENVIRONMENT = "QXFLEET_CONFIG"
STANDARD_FILE = pathlib.Path("/etc/qxfleet/qxfleet.toml")


NO_PLAN = Plan()
"""Nothing hangs on the fleet."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """``[agent]``: ``state``, ``control`` and ``spool`` absolute paths, ``record`` ``changes`` or ``all``."""

    name: str
    state: pathlib.Path
    database: str
    control: pathlib.Path
    record: Literal["changes", "all"]
    spool: pathlib.Path
    interfaces_user: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration without mistakes; never changes. ``sources`` are the files it came from, the main file first."""

    agent: AgentConfig
    ups: tuple[UpsOptions, ...]
    sources: tuple[pathlib.Path, ...]
    warnings: tuple[str, ...] = ()
    profiles: tuple[Profile, ...] = ()
    faces: Faces = NO_FACES
    tests: Rules = DEFAULT_RULES
    schedules: tuple[Schedule, ...] = ()
    shutdown: Plan = NO_PLAN
    retention: Retention = KEPT
    batteries: Mapping[str, BatteryFacts] = field(default_factory=dict)
    fleet: FleetSettings | None = None

    @staticmethod
    def defaults_text() -> str:
        """Every key with its default, form, range and meaning, as ``check --defaults`` prints it."""
        return reference.defaults_text()


def load(path: pathlib.Path | None = None) -> Config:
    """The configuration from ``path``, else ``$QXFLEET_CONFIG``, else :data:`STANDARD_FILE`.

    Raises ConfigError with every mistake of every file; no device is touched.
    """
    main, remedy = _main_file(path)
    findings = Findings()
    source = read_source(main, findings, remedy)
    if source is None:
        raise ConfigError(in_order(findings.problems))
    agent = _agent(source, findings)
    files = _included(source, agent, findings)
    others = (read_source(file, findings, "check the include line of the main file") for file in files)
    sources = (source, *(other for other in others if other is not None))
    control = _folder(main) / agent.control
    if len(os.fsencode(control)) > SOCKET_BYTES:
        findings.problem(
            Place(source, ("agent", "control")), f"{control} is longer than {SOCKET_BYTES} bytes: shorten it"
        )
    found: list[tuple[UpsOptions, Place]] = []
    blocks_read: list[Block] = []
    for each in sources:
        _check_tables(each, findings, main=each is source)
        for place, table in blocks(each, "ups", "UPS", findings):
            options = read_ups(table, place, agent, findings)
            blocks_read.append(Block(table, options))
            if options is not None:
                found.append((options, place))
    found = with_servers(found, sources, _folder(main), findings)
    _no_duplicates(found, findings)
    profiles = _profiles(sources, blocks_read, findings)
    faces = read_faces(sources, _folder(main), findings)
    tests, schedules = read_schedules(sources, blocks_read, _folder(main), findings)
    shutdown = read_shutdown(sources, [options for options, _ in found], findings)
    retention = read_retention(sources, findings)
    batteries = read_batteries(sources, blocks_read, findings)
    state, fleet = read_stores(sources, agent, _folder(main), findings)
    if findings.problems:
        raise ConfigError(in_order(findings.problems))
    return Config(
        agent=AgentConfig(
            name=agent.name or os.uname().nodename,
            state=state,
            database=f"sqlite:///{state}",
            control=control,
            record=agent.record,
            spool=_folder(main) / agent.spool if agent.spool else state.with_name(f"{state.name}.spool"),
            interfaces_user=agent.interfaces_user,
        ),
        ups=tuple(options for options, _ in found),
        sources=tuple(each.path for each in sources),
        warnings=in_order(findings.warnings),
        profiles=profiles,
        faces=faces,
        tests=tests,
        schedules=schedules,
        shutdown=shutdown,
        retention=retention,
        batteries=batteries,
        fleet=fleet,
    )


def _main_file(path: pathlib.Path | None) -> tuple[pathlib.Path, str]:
    """The main file, and what to do if it is not there."""
    if path is not None:
        return path, "name an existing file with --config"
    if named := os.environ.get(ENVIRONMENT):
        return pathlib.Path(named), f"the environment variable {ENVIRONMENT} names it: correct or unset that"
    return STANDARD_FILE, (
        'write it ("qxfleet discover" prints [[ups]] blocks to begin with), '
        f"or name another by --config or {ENVIRONMENT}"
    )


def _folder(main: pathlib.Path) -> pathlib.Path:
    return main.absolute().parent


def _agent(source: Source, findings: Findings) -> AgentTable:
    place = Place(source, ("agent",))
    table = source.tables.get("agent", {})
    if not isinstance(table, dict):
        findings.problem(place, "expected one table: write [agent], once, and its settings below it")
        return AgentTable.model_validate({})
    return read_table(AgentTable, table, place, findings)[0]


def _included(source: Source, agent: AgentTable, findings: Findings) -> list[pathlib.Path]:
    """The files that ``include`` names, each once, in the order of the patterns and then of their names."""
    folder = _folder(source.path)
    files: dict[pathlib.Path, None] = {}
    for index, pattern in enumerate(agent.include):
        place = Place(source, ("agent", "include", index))
        whole = str(folder / pattern)
        if not pattern:
            findings.problem(place, "expected a file name or pattern, found nothing: remove it")
        elif os.path.lexists(whole):
            files[pathlib.Path(whole)] = None
        elif glob.has_magic(pattern):
            files.update(dict.fromkeys(sorted(_matches(folder, pattern))))
        else:
            findings.problem(place, f"no such file, {toml_text(whole, 200)}: correct or remove it")
    return [file for file in files if not (file.exists() and file.samefile(source.path))]


def _matches(folder: pathlib.Path, pattern: str) -> Iterator[pathlib.Path]:
    path = pathlib.Path(pattern)
    return pathlib.Path(path.anchor).glob(str(path.relative_to(path.anchor))) if path.anchor else folder.glob(pattern)


def _check_tables(source: Source, findings: Findings, *, main: bool) -> None:
    """Every name at the top of a file is a table that may stand there."""
    for key, value in source.tables.items():
        place = Place(source, (key,))
        if key == "agent" and not main:
            findings.problem(place, "only the main file may hold [agent]: move its settings there")
        elif key in LATER_TABLES:
            findings.problem(place, later_table(key))
        elif key not in TABLES:
            findings.problem(place, unknown_table(key, value))


def _profiles(sources: Iterable[Source], fleet: list[Block], findings: Findings) -> tuple[Profile, ...]:
    """The profiles of all files; each needs a name of its own."""
    found: list[tuple[Profile, dict[str, Place]]] = []
    names: dict[str, Place] = {}
    for source in sources:
        for place, table in blocks(source, "profile", "profile", findings):
            read = read_profile(table, place, fleet, findings)
            if isinstance(name := table.get("name"), str) and (before := names.setdefault(name, place)) is not place:
                findings.problem(place.at("name"), f'"{name}" is the name of the profile at {before.at("name").spot} already: '
                                                   "every profile needs its own")  # fmt: skip
            if read is not None:
                found.append(read)
    warn_of_quarrels(found, fleet, findings)
    return tuple(profile for profile, _ in found)


def _no_duplicates(found: list[tuple[UpsOptions, Place]], findings: Findings) -> None:
    """Names and devices belong to one UPS each; two paths to one device count as the same."""
    names: dict[str, Place] = {}
    devices: dict[object, Place] = {}
    for options, place in found:
        before = names.setdefault(options.name, place)
        if before is not place:
            findings.problem(place.at("name"), f'"{options.name}" is the name of the UPS at {before.at("name").spot} '
                                               "already: every UPS in the fleet needs its own")  # fmt: skip
        before = devices.setdefault(device_of(options), place)
        if before is not place:
            remedy = "tell them apart by serial or bus" if options.port == "auto" else "every UPS needs its own"
            findings.problem(place.at("port"), f"{toml_text(options.port)} is the same device as that of the UPS at "
                                               f"{before.at('port').spot}: {remedy}")  # fmt: skip
