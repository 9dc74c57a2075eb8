"""``[[battery]]`` blocks: what somebody wrote down about the batteries of some UPSes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qxfleet.config.blocks import blocks
from qxfleet.config.findings import Findings, Place, Source
from qxfleet.config.profile import Block
from qxfleet.config.schema_batteries import BatteryTable
from qxfleet.config.tables import read_table
from qxfleet.config.targets import Member, select
from qxfleet.model.battery_facts import BatteryFacts


def read_batteries(sources: Sequence[Source], fleet: Sequence[Block], findings: Findings) -> Mapping[str, BatteryFacts]:
    """Facts by UPS name, from all files; mistakes go to ``findings``."""
    members = [Member(each.options.name, each.options.groups, each.options.dialect) for each in fleet if each.options]
    found: dict[str, BatteryFacts] = {}
    places: dict[str, Place] = {}
    for source in sources:
        for place, table in blocks(source, "battery", "kind of battery", findings):
            facts, upses = _battery(table, place, members, findings)
            for name in upses:
                before = places.setdefault(name, place)
                if before is not place:
                    findings.problem(place.at("targets"), f'"{name}" has its battery at {before.spot} already: keep one')
                found[name] = facts
    return found


def _battery(
    table: Mapping[str, object], at: Place, members: Sequence[Member], findings: Findings
) -> tuple[BatteryFacts, list[str]]:
    read, broken = read_table(BatteryTable, table, at, findings)
    if "targets" not in broken and not read.targets:
        findings.problem(at.at("targets"), 'missing: every [[battery]] needs some, as in targets = ["rack1-a"]')
    chosen: dict[str, None] = {}
    for index, target in enumerate(read.targets):
        try:
            chosen.update(dict.fromkeys(select(target, members)))
        except ValueError as error:
            findings.problem(at.at("targets", index), str(error))
    if read.made is not None and read.installed is not None and read.made > read.installed:
        findings.problem(at.at("made"), "is after installed: a battery is made before it is put in")
    facts = BatteryFacts(
        type=read.type, chemistry=read.chemistry, cells=read.cells, capacity_ah=read.capacity, made_us=read.made,
        installed_us=read.installed, design_life_years=read.design_life, runtimes=read.runtimes,
        assumed_load_percent=read.assumed_load, sensor_offset_c=read.temperature_offset, ageing_doubles_k=read.ageing_doubles,
        learned_runtime=read.learned_runtime, rated_w=read.rated_power, efficiency=read.efficiency, idle_w=read.idle_power,
    )  # fmt: skip
    return facts, list(chosen)
