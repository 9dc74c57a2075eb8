"""Keeps the fleet store in shape: weeks to come, roll-ups, retention; every agent tries, one at a time does it.

It runs on a thread and a connection of its own, so that shipping waits for none of it. The lock is the server's: it is free again
when the connection of whoever held it is gone.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import asdict
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.retention import Retention
from qxfleet.store.engine import explain
from qxfleet.store.fleet import Line
from qxfleet.store.migrate import Standing, standing
from qxfleet.store.tiers import PUT
from qxfleet.store.upkeep import keep_up_step

PERIOD_S: Final = 900.0
FIRST_S: Final = 30.0
"""After the start: the agent has registered by then, and a fleet that starts together has not all of it to do at once."""

PAUSE_S: Final = 0.1
CLOSE_S: Final = 1.2
STEP_US: Final = 3600 * 1_000_000
"""A clock set forward by more than this in a run is not believed by what deletes."""

RETENTION: Final = "retention"
"""The key in ``meta`` of how long the fleet store keeps what: its own property, set by its first agent."""

_LOCK: Final = 0x71786672_02

log = logging.getLogger(__name__)


class FleetUpkeep:
    """``retention`` is the agent's own, which a fleet store that has none yet takes over."""

    def __init__(self, url: str, clock: Clock, retention: Retention, *, first_s: float = FIRST_S) -> None:
        self._url = url
        self._clock = clock
        self._retention = retention
        self._first_s = first_s
        self._closing = threading.Event()
        self._line: Line | None = None
        self._thread = threading.Thread(target=self._run, name="fleet-upkeep", daemon=True)
        self._began_us, self._began_s = clock.wall_us(), clock.monotonic()

    def start(self) -> None:
        """Do what is due from now on."""
        self._thread.start()

    def close(self) -> None:
        """End between two steps, or in the midst of one: the server undoes it."""
        self._closing.set()
        if self._thread.ident is None:
            return
        self._thread.join(CLOSE_S / 4)
        line = self._line
        if self._thread.is_alive() and line is not None:
            line.hang_up()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        wait_s = self._first_s
        while not self._closing.wait(wait_s):
            wait_s = PERIOD_S
            line = self._line = Line(self._url)
            try:
                with line.engine.connect() as connection:
                    self._work(connection)
            except (SQLAlchemyError, StoreError) as error:
                if not self._closing.is_set():
                    sentence = str(error) if isinstance(error, StoreError) else explain(line.engine.url, error)
                    log.warning("the fleet store was not rolled up: %s", sentence)
            finally:
                self._line = None
                line.close()

    def _work(self, connection: Connection) -> None:
        with connection.begin():
            alone = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK})
            ready = standing(connection).standing is Standing.CURRENT
        if not (alone and ready):
            return
        more = True
        while more and not self._closing.is_set():
            began_s = time.monotonic()
            with connection.begin():
                more = keep_up_step(connection, retention(connection, self._retention), self._now_us())
            self._closing.wait(max(PAUSE_S, time.monotonic() - began_s))

    def _now_us(self) -> int:
        ran_us = round((self._clock.monotonic() - self._began_s) * 1e6)
        return min(self._clock.wall_us(), self._began_us + ran_us + STEP_US)


def retention(connection: Connection, ours: Retention) -> Retention:
    """How long the fleet store keeps what; ``ours`` where that was never set, from now on."""
    if kept(connection) is None:
        keep(connection, ours)
    return kept(connection) or ours


def kept(connection: Connection) -> Retention | None:
    """How long the fleet store keeps what; None: that was never set."""
    found = connection.scalar(text("SELECT value FROM meta WHERE key = :key"), {"key": RETENTION})
    return None if found is None else Retention(**json.loads(found))


def keep(connection: Connection, wanted: Retention) -> None:
    """Set how long the fleet store keeps what, for the whole fleet, from its next upkeep on."""
    connection.execute(PUT, {"key": RETENTION, "value": json.dumps(asdict(wanted))})
