"""``[[schedule]]`` and ``[tests]``: what is done on a calendar, and under which rules batteries are tested."""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qxfleet.config.blocks import blocks, single
from qxfleet.config.durations import duration_text
from qxfleet.config.findings import Findings, Place, Source, did_you_mean
from qxfleet.config.profile import Block
from qxfleet.config.schema_tests import ScheduleTable, TestsTable
from qxfleet.config.tables import read_table
from qxfleet.config.targets import Member, select
from qxfleet.dialects.battery_order import form
from qxfleet.dialects.registry import EVERY_DIALECT
from qxfleet.errors import OrderError
from qxfleet.model.selftest import DEFAULT_RULES, QUICK_TEST, Asked, Kind, Rules


@dataclass(frozen=True, slots=True)
class Schedule:
    """One ``[[schedule]]``; ``upses`` are names in the fleet's order. Of ``test``, ``command`` and ``file``, ``do`` says."""

    name: str
    do: Literal["test", "command", "report"]
    cron: str
    timezone: str
    upses: tuple[str, ...]
    window_s: float
    missed: Literal["skip", "run"]
    test: Asked = QUICK_TEST
    rules: Rules = DEFAULT_RULES
    command: str = ""
    value: str | None = None
    report: Literal["tests", "fleet"] = "tests"
    file: pathlib.Path | None = None

    @property
    def what(self) -> str:
        """What it does, for people."""
        match self.do:
            case "test":
                return str(self.test)
            case "command":
                return f"{self.command} {self.value or ''}".strip()
            case _:
                return f"report of {'the fleet' if self.report == 'fleet' else 'tests'} to {self.file}"


def read_schedules(
    sources: Sequence[Source], fleet: Sequence[Block], folder: pathlib.Path, findings: Findings
) -> tuple[Rules, tuple[Schedule, ...]]:
    """The rules of battery tests and the schedules of all files; mistakes go to ``findings``."""
    rules = _rules(sources, findings)
    members = [_member(block) for block in fleet]
    found: list[Schedule] = []
    names: dict[str, Place] = {}
    for source in sources:
        for place, table in blocks(source, "schedule", "schedule", findings):
            if isinstance(name := table.get("name"), str) and (before := names.setdefault(name, place)) is not place:
                findings.problem(place.at("name"), f'"{name}" is the name of the schedule at {before.at("name").spot} already: '
                                                   "every schedule needs its own")  # fmt: skip
            schedule = _schedule(table, place, members, rules, folder, findings)
            if schedule is not None:
                found.append(schedule)
    return rules, tuple(found)


def _rules(sources: Iterable[Source], findings: Findings) -> Rules:
    found = single(sources, "tests", findings)
    if found is None:
        return DEFAULT_RULES
    place, table = found
    read = read_table(TestsTable, table, place, findings)[0]
    return Rules(
        mains_stable_s=read.mains_stable, charged_s=read.charged, charge_percent=read.charge, load_steady_s=read.load_steady,
        load_change_percent=read.load_change, load_least_percent=read.load_least, no_alarm=read.no_alarm,
        partner_healthy=read.partner_healthy, no_maintenance=read.no_maintenance, runtime_factor=read.runtime_factor,
        runtime_known=read.runtime_known, again_after_failure=read.again_after_failure, max_parallel=read.max_parallel or 0,
        max_watts=read.max_watts, recharge_s=read.recharge, on_failure=read.on_failure, warning_cell_v=read.warning_voltage,
        longest_s=read.longest,
    )  # fmt: skip


def _member(block: Block) -> Member:
    if block.options is not None:
        return Member(block.options.name, block.options.groups, block.options.dialect)
    groups = block.table.get("groups")
    return Member(str(block.table.get("name")), tuple(map(str, groups)) if isinstance(groups, list) else ())


def _schedule(
    table: Mapping[str, object], at: Place, fleet: Sequence[Member], rules: Rules, folder: pathlib.Path, findings: Findings
) -> Schedule | None:
    before = len(findings.problems)
    read, broken = read_table(ScheduleTable, table, at, findings)
    given = read.model_fields_set
    for key, example in _NEEDED.items():
        if key not in broken and not getattr(read, key) and (key != "targets" or read.do != "report"):
            findings.problem(at.at(key), f"missing: every [[schedule]] needs {example}")
    for key in ("test", "depth", "max_parallel", "command", "value", "report", "file"):
        if key in given and key not in broken and "do" not in broken and key not in _KEYS_OF[read.do]:
            own = ", ".join(_KEYS_OF[read.do])
            findings.problem(at.at(key), f'does not belong to do = "{read.do}", which knows {own}: remove it')
    upses = _targets(read.targets, at, fleet, findings)
    test = _test(read, given, broken, at, findings)
    if "do" not in broken:
        _act(read, broken, at, findings)
    if read.do == "test" and not broken & {"do", "test", "depth", "targets"}:
        _able(test, upses, fleet, rules, at.at("depth" if read.depth is not None else "test"), findings)
    if len(findings.problems) > before:
        return None
    return Schedule(
        name=read.name, do=read.do, cron=read.cron, timezone=read.timezone, upses=upses, window_s=read.window, missed=read.missed,
        test=test, rules=replace(rules, max_parallel=read.max_parallel or rules.max_parallel), command=read.command,
        value=read.value or None, report=read.report, file=folder / read.file if read.file else None,
    )  # fmt: skip


def _targets(targets: Sequence[str], at: Place, fleet: Sequence[Member], findings: Findings) -> tuple[str, ...]:
    chosen: set[str] = set()
    for index, target in enumerate(targets):
        try:
            meant = select(target, fleet)
        except ValueError as error:
            findings.problem(at.at("targets", index), str(error))
            continue
        chosen.update(meant)
        if not meant:
            findings.problem(at.at("targets", index), "means no UPS at all: correct or remove it")
    return tuple(each.name for each in fleet if each.name in chosen)


def _test(read: ScheduleTable, given: set[str], broken: frozenset[str], at: Place, findings: Findings) -> Asked:
    if read.depth is not None and "test" in given and "test" not in broken and read.test != "deep":
        findings.problem(at.at("depth"), 'a depth is kept by a deep test: write test = "deep", or remove test')
    if isinstance(read.test, float):
        if read.test > read.window:
            findings.problem(at.at("window"), f"{duration_text(read.window)} is shorter than the test: make it longer")
        return Asked("timed", read.test)
    kind: Kind = "deep" if read.test == "deep" or read.depth is not None else "quick"
    return Asked(kind, depth_percent=read.depth)


def _able(
    test: Asked, upses: Collection[str], fleet: Sequence[Member], rules: Rules, at: Place, findings: Findings
) -> None:
    """Whether each UPS can take the test, as far as its dialect is written down."""
    known = {dialect.name: dialect for dialect in EVERY_DIALECT}
    refused: dict[str, list[str]] = {}
    for member in fleet:
        dialect = known.get(member.dialect or "")
        if member.name in upses and dialect is not None:
            try:
                form(test, rules, dialect.orders)
            except OrderError as error:
                refused.setdefault(f"{error} with {dialect.name}", []).append(member.name)
    for text, names in refused.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        findings.problem(at, f"{text} ({names[0]}{others}): choose another test or other targets")


def _act(read: ScheduleTable, broken: frozenset[str], at: Place, findings: Findings) -> None:
    if read.do == "command" and "command" not in broken:
        known = sorted({order.name for dialect in EVERY_DIALECT for order in dialect.orders} | {"shutdown.default"})
        if not read.command:
            findings.problem(at.at("command"), 'missing: write which, as in command = "beeper.disable"')
        elif read.command.startswith("test.battery.start"):
            findings.problem(at.at("command"), 'a test without its rules: write do = "test"')
        elif read.command not in known:
            findings.problem(at.at("command"), f'no dialect has a command "{read.command}"{did_you_mean(read.command, known)}')
    if read.do == "report" and "file" not in broken and not read.file:
        findings.problem(at.at("file"), 'missing: write where it goes, as in file = "/var/lib/qxfleet/tests.txt"')


_NEEDED = {
    "name": 'one, as in name = "weekly-quick"',
    "cron": 'one, as in cron = "0 3 * * sun"',
    "targets": 'some, as in targets = ["group:feed-a"] or ["all"]',
}
_KEYS_OF = {"test": ("test", "depth", "max_parallel"), "command": ("command", "value"), "report": ("report", "file")}
