"""Writes as data: a name and arguments, the same for the state and for the side file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeAlias

from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite

P = ParamSpec("P")

Write: TypeAlias = Callable[..., Any]
"""Gets the connection and the device id of each UPS it was given with."""

_WRITES: dict[str, Callable[..., Write]] = {}
_KINDS: dict[str, type] = {}


@dataclass(frozen=True, slots=True)
class Record:
    """One write that can be kept as text. Carried out again, in the same order, it changes nothing more and returns None."""

    name: str
    args: tuple[Any, ...]

    def __call__(self, connection: Connection, *device_ids: int) -> None:
        _WRITES[self.name](*self.args)(connection, *device_ids)

    def as_json(self) -> list[Any]:
        """As a list that JSON takes."""
        return [self.name, _encoded(self.args)]

    @classmethod
    def of_json(cls, found: list[Any]) -> Record:
        """The record that was kept. KeyError or ValueError for one that this version does not know."""
        name, args = found
        if name not in _WRITES:
            raise ValueError(f"a record {name!r}, which this version does not know")
        return cls(str(name), tuple(_decoded(args)))


def recorded(*kinds: type) -> Callable[[Callable[P, Write]], Callable[P, Record]]:
    """Make records of what a function returns. Its arguments are what JSON takes, or dataclasses of these ``kinds``."""
    _KINDS.update((kind.__name__, kind) for kind in kinds)

    def decorate(make: Callable[P, Write]) -> Callable[P, Record]:
        signature = inspect.signature(make)
        _WRITES[make.__name__] = make

        @wraps(make)
        def record(*args: P.args, **named: P.kwargs) -> Record:
            bound = signature.bind(*args, **named)
            bound.apply_defaults()
            return Record(make.__name__, bound.args)

        return record

    return decorate


def insert_new(connection: Connection, table: Table, rows: Mapping[str, Any] | list[dict[str, Any]]) -> None:
    """Insert rows that bring their keys; one that is there already stays as it is."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def insert_once(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert a row that has no key of its own, unless the very same is there."""
    same = [table.c[name].is_not_distinct_from(value) for name, value in row.items()]
    if connection.scalar(select(table.c.id).where(*same).limit(1)) is None:
        connection.execute(insert(table).values(row))


def _encoded(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {"$": type(value).__name__, **{each.name: _encoded(getattr(value, each.name)) for each in fields(value)}}
    if isinstance(value, Mapping):
        return {str(name): _encoded(held) for name, held in value.items()}
    return [_encoded(held) for held in value] if isinstance(value, list | tuple) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(held) for held in value]
    if not isinstance(value, dict):
        return value
    held = {name: _decoded(inner) for name, inner in value.items() if name != "$"}
    return _KINDS[value["$"]](**held) if "$" in value else held


@recorded()
def nothing() -> Write:
    """Nothing at all: kept when all records before it are."""
    return lambda _connection: None
