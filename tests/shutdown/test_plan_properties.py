"""Over random rooms, plans and outages: nothing loses its power while it runs, nothing is stopped for nothing, and so on."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.shutdown.rooms import Case, Watcher, cases, play, room_of

SOAK = os.environ.get("QXFLEET_SOAK") == "1"
FEW = settings(
    max_examples=1500 if SOAK else 25, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True,
)  # fmt: skip


def lost(course: Watcher) -> list[str]:
    return [name for name, machine in course.room.machines.items() if machine.lost_s is not None]


@FEW
@given(cases())
def test_with_honest_batteries_nothing_loses_its_power_while_it_runs(case: Case) -> None:
    course = Watcher(case.plan, room_of(case))
    play(case, course)
    assert not lost(course)
    failures = sum(not on for _, _, on in case.script)
    for name, times in course.stops.items():
        assert times <= failures, f"{name} was stopped {times} times in {failures} failures of mains"
