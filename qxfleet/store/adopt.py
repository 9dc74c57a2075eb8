"""A state beside a PostgreSQL that one agent wrote to before there was a state: what acts needs is copied into it, once.

Readings, roll-ups and the audit stay where they are; the fleet store adopts them (see :func:`qxfleet.store.fleet.register`).
Numbers are the same in both where the state is still empty. Where it is not, because the server was away at the first start,
copied rows get numbers below zero, which the state never gives itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, insert, literal, select, text

from qxfleet.store import fleet
from qxfleet.store.migrate import Standing, standing
from qxfleet.store.tables import metadata
from qxfleet.store.tables.fleet import SERIAL
from qxfleet.store.tables.fleet import fleet as fleet_tables
from qxfleet.store.tiers import PUT

MARK: Final = "fleet.seeded"
"""In ``meta`` of the state: ``same`` or ``below``, the numbers of what was copied; ``nothing``: there was nothing to copy."""

LEFT: Final = frozenset({"audit"})
"""Tables of which nothing that acts asks for what was."""

EVENTS: Final = 10_000
"""Of events the last ones are copied: since when a UPS is on battery is among them."""

_NUMBER: Final = "number in the state"
_FACTS: Final = ("schedule/", "schedule-since/")
"""Single facts that are copied: which dates of the calendar were dealt with."""


def seeded(state: Connection) -> str | None:
    """What :data:`MARK` says, None before :func:`put` was done."""
    found: str | None = state.scalar(text("SELECT value FROM meta WHERE key = :key"), {"key": MARK})
    return found


def empty(state: Connection) -> bool:
    """Whether nothing was written into the state that a copy could get the number of."""
    names = ("event", "order_log", "shutdown_run", "battery_test", "maintenance", "shutdown_arming", "discharge", "battery")
    return not any(state.scalar(text(f"SELECT EXISTS (SELECT 1 FROM {name})")) for name in names)


@dataclass(frozen=True, slots=True)
class Taken:
    """What was read from the store, in the order in which it can be written: rows by table, numbers as they are there.

    ``last`` is the largest number of each table, None where the copies get numbers below zero.
    """

    rows: dict[str, list[dict[str, Any]]]
    facts: list[dict[str, str]]
    last: dict[str, int] | None


def take(store: Connection, uuid: str, *, empty: bool) -> Taken | None:
    """Read what the agent's state needs, in a transaction that the caller has open; None: nothing there is this agent's.

    ``empty``: nothing was written into the state yet.
    """
    found = standing(store)
    if found.standing is Standing.OLDER and str(found.revision).isdecimal():
        fleet.ready(store)
        found = standing(store)
    if found.standing is not Standing.CURRENT:
        return None
    mine = store.scalar(text("SELECT id FROM agent WHERE uuid = :uuid"), {"uuid": uuid})
    others = store.scalar(text("SELECT EXISTS (SELECT FROM agent WHERE uuid <> :uuid)"), {"uuid": uuid})
    if others or not (mine or store.scalar(text("SELECT EXISTS (SELECT FROM device WHERE agent_id IS NULL)"))):
        return None
    below = not empty or mine is not None
    rows: dict[str, list[dict[str, Any]]] = {}
    last: dict[str, int] = {}
    for table in metadata.sorted_tables:
        source = fleet_tables.tables.get(table.name)
        if source is None or table.name in LEFT | {"meta"} or table.name.startswith(("reading", "extra_")):
            continue
        query = select(*(source.c[column.name] for column in table.columns))
        if table.name in SERIAL:
            shift = func.coalesce(select(func.max(source.c.id)).scalar_subquery() + 1, 0) if below else literal(0)
            query = query.add_columns(func.coalesce(source.c.row, source.c.id - shift).label(_NUMBER))
            query = query.where(source.c.agent_id.is_(None) | (source.c.agent_id == mine)).order_by(source.c.id.desc())
            query = query.limit(EVENTS) if table.name == "event" else query
            last[table.name] = store.scalar(select(func.max(source.c.id))) or 0
        rows[table.name] = [dict(row) for row in store.execute(query).mappings()][::-1]
    last |= {name: store.scalar(select(func.max(fleet_tables.tables[name].c.id))) or 0 for name in LEFT}
    facts = [
        {"key": str(key), "value": str(value)}
        for key, value in store.execute(select(fleet_tables.tables["meta"]))
        if str(key).startswith(_FACTS)
    ]
    return Taken(rows, facts, None if below else last)


def put(state: Connection, taken: Taken | None) -> str | None:
    """Write what was taken into the state, and that this was done. A sentence where it was anything."""
    if taken is None:
        state.execute(PUT, {"key": MARK, "value": "nothing"})
        return None
    numbers: dict[str, dict[int, int]] = {"device": _devices(state, taken.rows.pop("device", []))}
    counts: dict[str, int] = {}
    for name, found in taken.rows.items():
        table = metadata.tables[name]
        known = numbers.setdefault(name, {})
        rows = []
        for row in found:
            if _NUMBER in row:
                known[row["id"]] = row["id"] = int(row.pop(_NUMBER))
            if all(_translate(row, column, numbers) for column in table.columns):
                rows.append(row)
        if rows:
            state.execute(insert(table).prefix_with("OR IGNORE"), rows)
            counts[name] = len(rows)
    if taken.facts:
        state.execute(insert(metadata.tables["meta"]).prefix_with("OR IGNORE"), taken.facts)
    for name, last in (taken.last or {}).items():
        _number_from(state, name, last)
    state.execute(PUT, {"key": MARK, "value": "below" if taken.last is None else "same"})
    listed = ", ".join(f"{count} rows of {name}" for name, count in counts.items())
    return f"the state took over what this agent had written into the fleet's database: {listed}" if listed else None


def _devices(state: Connection, found: list[dict[str, Any]]) -> dict[int, int]:
    """Numbers of UPSes in the state by those in the store; those that are new here are entered."""
    table = metadata.tables["device"]
    rows = [{name: value for name, value in row.items() if name != "id"} for row in found]
    if rows:
        state.execute(insert(table).prefix_with("OR IGNORE"), rows)
    here = {row.name: row.id for row in state.execute(select(table.c.name, table.c.id))}
    return {row["id"]: here[row["name"]] for row in found}


def _translate(row: dict[str, Any], column: Any, numbers: dict[str, dict[int, int]]) -> bool:
    """Put the state's number in the place of the store's; False where the row it needs was not copied."""
    target = next((key.column.table.name for key in column.foreign_keys), None)
    if target is None or row[column.name] is None:
        return True
    number = numbers.get(target, {}).get(row[column.name])
    row[column.name] = number
    return number is not None or bool(column.nullable)


def _number_from(state: Connection, name: str, last: int) -> None:
    """Let the next row of a table get a number above ``last``."""
    entry = {"name": name, "last": last}
    raised = state.execute(text("UPDATE sqlite_sequence SET seq = max(seq, :last) WHERE name = :name"), entry)
    if not raised.rowcount:
        state.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), entry)
