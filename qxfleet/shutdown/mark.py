"""The mark of this boot: UPSes of the agent's own machine that are still to cut when it goes down.

The plan tells its own UPS to cut before its host goes down. Where the UPS did not take that, a mark is left beside the control
socket when the agent stops, and the machine's last hook, ``qxfleet cut --hook``, cuts once all processes are gone.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from qxfleet.agent.agent import Agent
from qxfleet.config.load import Config
from qxfleet.model.loads import Plan
from qxfleet.shutdown.model import Act, Record, World
from qxfleet.shutdown.model import Answer as Told
from qxfleet.shutdown.run import StagedShutdown

log = logging.getLogger(__name__)

MARK = "to-cut.json"
"""The mark's name beside the control socket."""

BOOT = Path("/proc/sys/kernel/random/boot_id")

GOOD_FOR_S = 600.0
"""A mark older than this is of another shutdown."""


@dataclass(frozen=True, slots=True)
class Mark:
    """UPSes that are to be cut; ``stay_off``: the plan says that they stay off, whatever their own options say."""

    upses: tuple[str, ...]
    stay_off: bool = False


def owed(plan: Plan, record: Record, world: World) -> tuple[str, ...]:
    """UPSes of the agent's own host that are to cut and did not take the order: in an armed run the host's stop has begun, and
    nothing else on them is up. Mains may be back by then: a host that went down comes back only if its power goes and comes."""
    if plan.host is None or not record.armed or plan.ups_off.then == "leave":
        return ()
    last = {(taken.step.act, taken.step.target): taken for taken in record.taken}
    if (Act.STOP, plan.host) not in last:
        return ()

    def down(load: str) -> bool:
        stop, seen = last.get((Act.STOP, load)), world.loads.get(load)
        if seen is not None and seen.up is not None:
            return not seen.up
        return stop is not None and stop.down

    def taken(ups: str) -> bool:
        cut = last.get((Act.CUT, ups))
        return cut is not None and cut.answer in (Told.ACCEPTED, Told.UNCONFIRMED) and cut.result is None

    return tuple(
        ups for ups in plan.named[plan.host].fed_by
        if not taken(ups) and all(down(load.name) for load in plan.fed[ups] if load.name != plan.host)
    )  # fmt: skip


class LeaveMark:
    """Leaves the mark, and takes it away when the agent starts. Starts behind the staged shutdown, so it stops before it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._file = agent.config.agent.control.parent / MARK

    async def start(self) -> None:
        """A mark that was left is of a shutdown that is over."""
        self._file.unlink(missing_ok=True)

    async def stop(self) -> None:
        """Leave the mark if anything is owed."""
        shutdown = self._agent.part(StagedShutdown)
        if shutdown is None:
            return
        upses = owed(shutdown.plan, shutdown.record, shutdown.world)
        if upses:
            leave(self._file, Mark(upses, shutdown.plan.ups_off.then == "stay-off"))
            names = ", ".join(upses)
            log.warning("%s did not take the order to cut: it is left to the machine's last hook, %s", names, self._file)

    def apply(self, config: Config) -> list[str]:
        """Nothing of this is configured."""
        return []


def leave(file: Path, mark: Mark) -> None:
    """Write a mark of this boot."""
    file.write_text(json.dumps({
        "boot": _boot(), "written_s": time.monotonic(), "upses": list(mark.upses), "stay_off": mark.stay_off,
    }))  # fmt: skip


def read_mark(file: Path) -> Mark | None:
    """The mark, if it is of this boot and this shutdown; None otherwise. Raises ValueError for a file that is none."""
    try:
        written = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    try:
        fresh = 0 <= time.monotonic() - float(written["written_s"]) < GOOD_FOR_S and written["boot"] == _boot()
        mark = Mark(tuple(str(ups) for ups in written["upses"]), bool(written["stay_off"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: not a mark of the agent: {error}") from None
    return mark if fresh else None


def _boot() -> str:
    return BOOT.read_text().strip()
