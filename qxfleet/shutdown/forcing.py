"""Which loads' NUT clients are told to shut down at this moment, and through which of their UPSes.

Worked out anew at every look from the record and what is seen, so that it ends when its reason ends and survives a restart only
as long as its reason does. A client that comes back after the outage, or that somebody starts by hand, must not find it set:
upsmon reads ``ups.status`` as soon as it connects, and would stop its host again.
"""

from __future__ import annotations

from collections.abc import Mapping

from qxfleet.model.loads import Load, NutClients
from qxfleet.shutdown.model import Mains
from qxfleet.shutdown.progress import LoadRun, Standing
from qxfleet.shutdown.scene import Scene


def forced(scene: Scene) -> Mapping[str, frozenset[str]]:
    """The UPSes that show FSD to each load's clients; loads without any are left out."""
    found: dict[str, frozenset[str]] = {}
    if not scene.record.armed:
        return found
    for name, run in scene.found.loads.items():
        load = scene.plan.named[name]
        if isinstance(load.stop, NutClients) and run.start is None and _holds(scene, load):
            upses = frozenset(ups for ups in load.fed_by if name in scene.must or not _came_back(scene, ups, run))
            if upses:
                found[name] = upses
    return found


def _holds(scene: Scene, load: Load) -> bool:
    """Whether it is to go, or could come up on poor power.

    One that is down is told only until its power is good: then whoever starts it may, also where an operator ordered it down. One
    that is still going is told until mains are stable, since it may have been told a second before mains came back. One that is
    up again is told by a stop of its own, should it have to go again.
    """
    if scene.at[load.name] not in (Standing.STOPPING, Standing.AGAIN, Standing.STUCK, Standing.DOWN):
        return False
    if load.name in scene.must:
        return True
    if scene.record.cancelled:
        return False
    good = [ups for ups in load.fed_by if scene.good(ups)]
    if scene.at[load.name] is Standing.DOWN:
        return len(good) < load.needs_feeds
    stable_s = scene.plan.coming_back.mains_stable_s
    return sum(scene.now_s - scene.feeds[ups].seen.since_s >= stable_s for ups in good) < load.needs_feeds


def _came_back(scene: Scene, ups: str, run: LoadRun) -> bool:
    """Its output was off and is on again, with mains, since the load was told to stop."""
    seen = scene.feeds[ups].seen
    if not seen.contact or seen.output_since_s is None or seen.mains is not Mains.ON or seen.counting_down:
        return False
    return scene.power_came(ups, run.stop) or scene.was_cut(ups, run)
