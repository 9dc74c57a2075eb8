"""The last word to the agent's own UPS: an order to cut that could not be given, or was not taken, while the agent ran.

The plan tells its own UPS to cut before its host goes down. Where the UPS did not take that, a note is left beside the control
socket when the agent stops, and the last hook of the machine says it once more, when all processes are gone and disks read-only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qxfleet.agent.agent import Agent
from qxfleet.config.load import Config
from qxfleet.errors import OrderInvalid, OrderNotSupported, ReplyError, ReplyTimeout
from qxfleet.model.loads import Plan
from qxfleet.model.options import UpsOptions
from qxfleet.model.wire import Answer, Ask, sort_answer
from qxfleet.shutdown.model import Act, Record, World
from qxfleet.shutdown.model import Answer as Told
from qxfleet.shutdown.run import StagedShutdown
from qxfleet.transports.base import Transport

log = logging.getLogger(__name__)

NOTE = "late-cut.json"
"""The note's name beside the control socket."""

GOOD_FOR_S = 600.0
"""A note older than this is of another shutdown."""

SOON_S = 30.0
"""From the last word to the cut: nothing runs any more that could need longer."""


@dataclass(frozen=True, slots=True)
class LateCut:
    """One order as it is to be sent: ``request`` are its bytes as latin-1, ``written_s`` the time since boot."""

    ups: str
    request: str
    written_s: float


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


class LateCuts:
    """Leaves the note, and takes it away when the agent starts. Starts behind the staged shutdown, so it stops before it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._note = agent.config.agent.control.parent / NOTE

    async def start(self) -> None:
        """A note that was left is of a shutdown that is over."""
        self._note.unlink(missing_ok=True)

    async def stop(self) -> None:
        """Leave the note if anything is owed."""
        shutdown = self._agent.part(StagedShutdown)
        if shutdown is None:
            return
        stay_off = shutdown.plan.ups_off.then == "stay-off"
        cuts = list(self._cuts(owed(shutdown.plan, shutdown.record, shutdown.world), stay_off=stay_off))
        if cuts:
            self._note.write_text(json.dumps([asdict(cut) for cut in cuts]))
            log.warning("%s did not take the order to cut: it is left to the machine's last hook, %s", _names(cuts), self._note)

    def apply(self, config: Config) -> list[str]:
        """Nothing of this is configured."""
        return []

    def _cuts(self, upses: Iterable[str], *, stay_off: bool) -> Iterable[LateCut]:
        for ups in upses:
            name = "shutdown.stayoff" if stay_off else "shutdown.return"
            try:
                prepared = self._agent.fleet.session(ups).prepare(name, None, {"ups.delay.shutdown": SOON_S})
            except (OrderNotSupported, OrderInvalid) as error:
                log.error("%s can't be told to cut at the last moment: %s", ups, error)
                continue
            yield LateCut(ups, prepared.request.decode("latin-1"), self._agent.clock.monotonic())


def read_note(file: Path, now_s: float) -> list[LateCut]:
    """What the note says, if it is of this shutdown; nothing where there is none. Raises ValueError for one not of ours."""
    try:
        written: list[dict[str, Any]] = json.loads(file.read_text())
    except FileNotFoundError:
        return []
    try:
        cuts = [LateCut(str(cut["ups"]), str(cut["request"]), float(cut["written_s"])) for cut in written]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: not a note of the agent: {error}") from None
    return [cut for cut in cuts if 0 <= now_s - cut.written_s < GOOD_FOR_S]


async def send(cut: LateCut, options: UpsOptions, transport_for: Callable[[UpsOptions], Transport]) -> str:
    """Send one order once; what the UPS said, in words. Raises LinkError."""
    transport, request = transport_for(options), cut.request.encode("latin-1")
    try:
        await transport.open()
        try:
            frame = await transport.exchange(Ask(request))
        except ReplyTimeout:
            return "sent; it said nothing, as most do"
        except ReplyError as error:
            return f"sent; its answer could not be read: {error}"
        answer = sort_answer(request, frame)
        return "taken" if answer is Answer.ACCEPTED else f"answered {frame!r}"
    finally:
        await transport.close()


def _names(cuts: Iterable[LateCut]) -> str:
    return ", ".join(cut.ups for cut in cuts)
