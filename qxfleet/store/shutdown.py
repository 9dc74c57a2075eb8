"""Runs of the staged shutdown as they are stored. Times are UTC microseconds; writes are for :meth:`Store.commit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from qxfleet.store.records import Write, insert_new, insert_once, recorded
from qxfleet.store.rows import clean
from qxfleet.store.tables import shutdown_arming, shutdown_run, shutdown_step

REMEMBERED = 10
"""Earlier times of one load that count for what it is expected to take."""


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One step; ``step`` is what it was to do, ``answer`` and ``result`` None while not known."""

    number: int
    act: str
    target: str
    step: Mapping[str, Any]
    begun_us: int
    answer: str | None = None
    answered_us: int | None = None
    result: str | None = None
    ended_us: int | None = None
    took_s: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run; ``ended_us`` None: still under way."""

    id: int
    armed: bool
    actor: str
    plan: Mapping[str, Any]
    ordered: Mapping[str, Any] | None
    cancelled: bool
    started_us: int
    ended_us: int | None
    outcome: str | None
    text: str
    steps: tuple[StoredStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Arming:
    """Who armed or disarmed the plan, and when."""

    at_us: int
    armed: bool
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one step."""

    number: int
    result: str
    ended_us: int
    took_s: float | None
    text: str


# -- out


def open_run(connection: Connection) -> StoredRun | None:
    """The run that is under way, with its steps."""
    found = _runs(connection, shutdown_run.c.ended.is_(None), 1)
    return found[0] if found else None


def run(connection: Connection, run_id: int) -> StoredRun | None:
    """One run with its steps."""
    found = _runs(connection, shutdown_run.c.id == run_id, 1)
    return found[0] if found else None


def runs(connection: Connection, most: int) -> list[StoredRun]:
    """The latest runs with their steps, newest first."""
    return _runs(connection, shutdown_run.c.id > 0, most)


def _runs(connection: Connection, which: ColumnElement[bool], most: int) -> list[StoredRun]:
    found = []
    query = select(shutdown_run).where(which).order_by(shutdown_run.c.id.desc()).limit(most)
    for row in connection.execute(query).mappings().all():
        steps = select(shutdown_step).where(shutdown_step.c.run_id == row["id"]).order_by(shutdown_step.c.number)
        found.append(StoredRun(
            row["id"], row["armed"], row["actor"], row["plan"], row["ordered"], row["cancelled"], row["started"], row["ended"],
            row["outcome"], row["text"], tuple(_step(each) for each in connection.execute(steps).mappings()),
        ))  # fmt: skip
    return found


def _step(row: Mapping[Any, Any]) -> StoredStep:
    return StoredStep(
        row["number"], row["act"], row["target"], row["step"], row["begun"], row["answer"], row["answered"], row["result"],
        row["ended"], row["took_s"], row["text"],
    )  # fmt: skip


def arming(connection: Connection) -> Arming | None:
    """Who armed or disarmed the plan last; None: nobody ever did."""
    table = shutdown_arming
    row = connection.execute(select(table).order_by(table.c.id.desc()).limit(1)).mappings().first()
    return None if row is None else Arming(row["at"], row["armed"], row["actor"], row["reason"])


def times_taken(connection: Connection, act: str) -> dict[str, list[float]]:
    """What stopping (or starting) each target took in the latest armed runs and drills, newest first."""
    table = shutdown_step
    newest = func.row_number().over(partition_by=table.c.target, order_by=table.c.id.desc()).label("newest")
    ranked = (
        select(table.c.target, table.c.took_s, newest)
        .join(shutdown_run, shutdown_run.c.id == table.c.run_id)
        .where(table.c.act == act, table.c.took_s.is_not(None), shutdown_run.c.armed)
        .subquery()
    )
    taken: dict[str, list[float]] = {}
    for target, took_s in connection.execute(
        select(ranked.c.target, ranked.c.took_s).where(ranked.c.newest <= REMEMBERED).order_by(ranked.c.newest)
    ):
        taken.setdefault(target, []).append(took_s)
    return taken


# -- in


@recorded()
def begin_run(
    run_id: int, armed: bool, actor: str, plan: Mapping[str, Any], ordered: Mapping[str, Any] | None, started_us: int
) -> Write:
    """A run begins, under the number it was given."""

    def write(connection: Connection) -> None:
        insert_new(connection, shutdown_run, {
            "id": run_id, "armed": armed, "actor": clean(actor), "plan": plan, "ordered": ordered, "cancelled": False,
            "started": started_us,
        })  # fmt: skip

    return write


@recorded(Ended, StoredStep)
def go_on(run_id: int, ended: Sequence[Ended], begun: Sequence[StoredStep]) -> Write:
    """Steps that have ended, and the intents of those that are to be taken."""

    def write(connection: Connection) -> None:
        for each in ended:
            which = (shutdown_step.c.run_id == run_id, shutdown_step.c.number == each.number)
            connection.execute(update(shutdown_step).where(*which).values(
                result=each.result, ended=each.ended_us, took_s=each.took_s, text=clean(each.text)
            ))  # fmt: skip
        if begun:
            insert_new(connection, shutdown_step, [
                {"run_id": run_id, "number": each.number, "act": each.act, "target": clean(each.target), "step": each.step,
                 "begun": each.begun_us}
                for each in begun
            ])  # fmt: skip

    return write


@recorded()
def answer(run_id: int, number: int, word: str, answered_us: int, text: str) -> Write:
    """What came of one step's act. The first answer stands."""

    def write(connection: Connection) -> None:
        table = shutdown_step
        connection.execute(
            update(table)
            .where(table.c.run_id == run_id, table.c.number == number, table.c.answer.is_(None))
            .values(answer=word, answered=answered_us, text=clean(text))
        )

    return write


@recorded()
def wish(run_id: int, ordered: Mapping[str, Any] | None, cancelled: bool) -> Write:
    """What an operator wants of a run that is under way."""

    def write(connection: Connection) -> None:
        connection.execute(
            update(shutdown_run).where(shutdown_run.c.id == run_id).values(ordered=ordered, cancelled=cancelled)
        )

    return write


@recorded()
def end_run(run_id: int, outcome: str, text: str, ended_us: int) -> Write:
    """A run is over."""

    def write(connection: Connection) -> None:
        connection.execute(
            update(shutdown_run)
            .where(shutdown_run.c.id == run_id)
            .values(outcome=outcome, text=clean(text), ended=ended_us)
        )

    return write


@recorded(Arming)
def arm(entry: Arming) -> Write:
    """The plan is armed or disarmed."""

    def write(connection: Connection) -> None:
        row = {"at": entry.at_us, "armed": entry.armed, "actor": clean(entry.actor), "reason": clean(entry.reason)}
        insert_once(connection, shutdown_arming, row)

    return write
