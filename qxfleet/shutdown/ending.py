"""How a run ended, in one sentence: what was done, what failed, what is left to people. Nothing is said that was not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qxfleet.shutdown.model import Act, Result, Taken
from qxfleet.shutdown.progress import Standing
from qxfleet.shutdown.scene import Scene
from qxfleet.shutdown.triggers import spell_s

MOST = 6
"""Names that are listed; the rest is counted."""


def sentence(scene: Scene, hand: Mapping[str, str]) -> str:
    """``hand``: what only a person can do now, by load or UPS."""
    record = scene.record
    if not record.taken:
        return "there was nothing to stop"
    took = f"it took {spell_s(scene.now_s - record.taken[0].begun_s)}"
    stops, cuts = _by_target(record.taken, Act.STOP), _by_target(record.taken, Act.CUT)
    gone = [name for name, taken in stops.items() if any(each.down for each in taken) or scene.at[name] is Standing.DOWN]
    unseen = [name for name in gone if stops[name][-1].result is Result.NOT_SEEN and scene.up[name] is not False]
    stopped = [name for name in gone if name not in unseen]
    cut = [name for name, taken in cuts.items() if any(each.result is Result.DONE for each in taken)]
    if not record.armed:
        return "; ".join((
            f"{count(len(stopped), 'load')} would have been stopped", f"{count(len(cut), 'UPS', 'UPSes')} would have been cut",
            "not armed: nothing was touched", took,
        ))  # fmt: skip
    refused = [name for name in stops if name not in gone and scene.at[name] is not Standing.STOPPING]
    parts = [f"{count(len(stopped), 'load')} stopped", f"{count(len(cut), 'UPS', 'UPSes')} cut"]
    parts += [f"{names(refused)} would not stop"] if refused else []
    parts += [f"{names(unseen)} {_was(unseen)} not seen off"] if unseen else []
    called = [name for name, taken in cuts.items() if taken[-1].result is Result.UNDONE]
    parts += [f"the cut of {names(called)} was called back"] if called else []
    vain = [name for name, taken in cuts.items() if name not in cut and taken[-1].result in (Result.FAILED, Result.NO_EFFECT)]
    parts += [f"{names(vain)} {_was(vain)} to cut and did not"] if vain else []
    open_cuts = [name for name, taken in cuts.items() if taken[-1].result is None]
    parts += [f"{names(open_cuts)} {_was(open_cuts)} told to cut, and {_is(open_cuts)} not known to be back"] if open_cuts else []
    parts += _back(scene, gone, hand)
    parts += [took, *hand.values()]
    return "; ".join(parts)


def _back(scene: Scene, stopped: Sequence[str], hand: Mapping[str, str]) -> list[str]:
    """Which of the loads that were stopped are up again, and how that is known."""
    up = [name for name in stopped if scene.up[name]]
    if not stopped:
        return []
    if len(up) == len(stopped):
        return ["all are back" if len(stopped) > 1 else f"{stopped[0]} is back"]
    parts = [f"{len(up)} of them {_is(up)} back"] if up else []
    going = [name for name in stopped if name not in up and scene.at[name] is Standing.STOPPING]
    rest = [name for name in stopped if name not in up and name not in going and name not in hand]
    blind = [name for name in rest if scene.up[name] is None]
    down = [name for name in rest if name not in blind]
    parts += [f"{names(going)} {_is(going)} being stopped again"] if going else []
    parts += [f"{names(down)} {_is(down)} down"] if down else []
    parts += [f"nothing tells whether {names(blind)} {_is(blind)} up"] if blind else []
    return parts


def _by_target(taken: Sequence[Taken], act: Act) -> dict[str, list[Taken]]:
    found: dict[str, list[Taken]] = {}
    for each in taken:
        if each.step.act is act:
            found.setdefault(each.step.target, []).append(each)
    return found


def count(number: int, noun: str, plural: str = "") -> str:
    """``no load``, ``1 load``, ``3 loads``."""
    return f"{number or 'no'} {noun if number == 1 else plural or noun + 's'}"


def names(of: Sequence[str]) -> str:
    """``a, b and 4 more``."""
    if len(of) <= MOST:
        return " and ".join(filter(None, (", ".join(of[:-1]), of[-1]))) if of else ""
    return f"{', '.join(of[:MOST])} and {len(of) - MOST} more"


def _is(of: Sequence[str]) -> str:
    return "is" if len(of) == 1 else "are"


def _was(of: Sequence[str]) -> str:
    return "was" if len(of) == 1 else "were"
