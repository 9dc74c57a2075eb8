# ruff: noqa: T201
"""What the shutdown planner costs: 250 UPSes in A/B pairs, 1,000 loads, dependencies four deep.

``python -m tests.benchmarks.bench_shutdown_planner``. CPU time, best and median of the looks in one whole imagined
outage, by what is going on; and from mains failing to the first step of the plan, in the planner's own time.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict

from qxfleet.model.loads import ComingBack, Command, Condition, Load, Plan, TcpClosed, Trigger, WakeOnLan
from qxfleet.shutdown.imagine import Course, Room, Ups, machine_for
from qxfleet.shutdown.plan import next_steps

PAIRS, LOADS_EACH, DEEP = 125, 8, 4
LOOKS_CALM, LOOKS_OUT = 5, 110
"""Looks before mains fail, and before they return; one each four seconds."""


def plan() -> Plan:
    """Each pair of UPSes feeds two chains of four loads."""
    loads = []
    for pair in range(PAIRS):
        for number in range(LOADS_EACH):
            before = () if number % DEEP == 0 else (f"load-{pair}-{number - 1}",)
            loads.append(Load(
                f"load-{pair}-{number}", (f"a{pair}", f"b{pair}"), after=before, stop=Command(("stop",)), stop_time_s=60.0,
                down_when=TcpClosed("host", 22), start=WakeOnLan("52:54:00:12:34:56"),
            ))  # fmt: skip
    conditions = (Condition("runtime-below"), Condition("on-battery-for", 60.0), Condition("low-battery"))
    return Plan(tuple(loads), Trigger(conditions), coming_back=ComingBack(20.0, 60.0), armed=True)


def main() -> None:
    """One outage of everything, look by look."""
    chosen = plan()
    room = Room(chosen, [Ups(name, 3600.0, 1000.0) for name in chosen.fed], [machine_for(load, 100.0) for load in chosen.loads])
    course = Course(chosen, room)
    spent: dict[str, list[float]] = defaultdict(list)
    first = 0.0
    for look in range(180):
        if look in (LOOKS_CALM, LOOKS_OUT):
            for ups in room.upses:
                room.mains(ups, look == LOOKS_OUT)
        record, world = course.record, room.world()
        decision = course.look()
        took_s = 0.0
        if decision.begin or look < LOOKS_CALM or look % 3 == 0:
            begun = time.process_time()
            next_steps(chosen, record, world, room.now_s)
            took_s = time.process_time() - begun
        phase = "all on mains, no run" if look < LOOKS_CALM else "on battery, nothing to do yet"
        if course.record.taken or decision.begin:
            phase = "stopping and cutting" if look < LOOKS_OUT else "bringing back"
        if decision.begin and not first:
            first = took_s
        if took_s:
            spent[phase].append(took_s)
        room.pass_time(4.0)
    print(f"{2 * PAIRS} UPSes, {len(chosen.loads)} loads, {DEEP} deep; {len(course.record.taken)} steps taken; CPU time per look")
    for phase, times in spent.items():
        print(f"  {phase:<32} best {1e3 * min(times):7.2f} ms   median {1e3 * statistics.median(times):7.2f} ms   "
              f"worst {1e3 * max(times):7.2f} ms   ({len(times)} looks)")  # fmt: skip
    print(f"  the look that decided on the first steps: {1e3 * first:.1f} ms (a look comes at least every second)")


if __name__ == "__main__":
    main()
