"""Where the agent keeps its record: its own state, always, and the fleet's database where there is one."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

from qxfleet.config.blocks import single
from qxfleet.config.findings import Findings, Place, Source
from qxfleet.config.schema import AgentTable, FleetTable
from qxfleet.config.tables import read_table

STATE = pathlib.Path("/var/lib/qxfleet/state.db")
FORMER = STATE.with_name("fleet.db")
"""What was the default before the state had a key of its own; taken over where it is the only one of the two."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """``[fleet]``: ``database`` a PostgreSQL URL as SQLAlchemy takes it; ``site`` empty where none is named."""

    database: str
    site: str = ""


def read_stores(
    sources: Sequence[Source], agent: AgentTable, folder: pathlib.Path, findings: Findings
) -> tuple[pathlib.Path, FleetSettings | None]:
    """The state's file and the fleet; a ``postgresql`` URL under ``[agent] database`` is a fleet of one agent.

    ``folder`` is that of the main file, from which relative paths count. Two keys for one thing go to ``findings``.
    """
    fleet = _fleet(sources, findings)
    older = agent.database or ""
    file = older.partition("sqlite:///")[2].partition("?")[0]
    place = Place(sources[0], ("agent", "database"))
    if file and agent.state is not None:
        findings.problem(place, "is the older name of `state`, which is set too: remove this line")
    if older and not file:
        if fleet is not None:
            findings.problem(place, "[fleet] names a database too: remove this line")
        fleet = fleet or FleetSettings(older)
    if path := agent.state or file:
        if (folder / path).is_dir():
            at = Place(sources[0], ("agent", "state" if agent.state else "database"))
            findings.warning(at, "this is a folder: nothing can be kept there, name a file in it")
        return folder / path, fleet
    return (FORMER if not older and FORMER.exists() and not STATE.exists() else STATE), fleet


def _fleet(sources: Sequence[Source], findings: Findings) -> FleetSettings | None:
    found = single(sources, "fleet", findings)
    if found is None:
        return None
    place, table = found
    read, broken = read_table(FleetTable, table, place, findings)
    if "database" not in table:
        findings.problem(place, f"database is missing: write database = {FleetTable.model_fields['database'].metadata[0].words}")
    return FleetSettings(read.database, read.site) if read.database and not broken else None
