"""One battery test from its beginning to its verdict: what was seen of it, when it is to be ended, and what it means. Pure.

Landscape section 5.6, "During" and "After". A course is told every reading; it can be rebuilt from the stored ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from qxfleet.model.events import Outcome
from qxfleet.model.selftest import QUICK_S, Asked, Rules, Verdict
from qxfleet.model.status import Status
from qxfleet.selftest.watch import cell_volts

CARRIED_BELOW = 0.98
"""Battery voltage below this share of that before the test: it carries the load. Off its charger alone a lead-acid battery falls
from about 2.27 to 2.13–2.17 V a cell, which is 0.96 (landscape section 5.4)."""

NO_EFFECT_S = 20.0
"""A test that was ordered and of which nothing is seen for so long has not begun."""

OVER_S = 3.0
"""The test bit must be gone for so long, and mains be there, for a test to be over."""

RETURN_S = 60.0
"""Longest wait for the way back to mains after a test."""

LOST_S = 20.0
"""A UPS under test that says nothing for so long is lost."""

LOAD_READINGS = 3
"""Readings in a row that must show another load: one alone may be the transfer itself."""

EARLY_LOW_S = 60.0
"""A battery that is low so soon in a deep test has failed; else half of its predicted runtime is asked of it."""


@dataclass(frozen=True, slots=True)
class Point:
    """One reading of a test. ``outage``: mains are gone, test or no test. ``failed``: the UPS says that it, or its test, failed;
    ``fault``: what else it complains of, empty if nothing. ``result``: its own word on its last test (``passed``, ``failed``)."""

    mono_s: float
    status: int
    volts: float | None = None
    nominal_v: float | None = None
    load: float | None = None
    charge: float | None = None
    outage: bool = False
    failed: bool = False
    fault: str = ""
    result: str = ""

    @property
    def tests(self) -> bool:
        """Whether the UPS says that it tests."""
        return bool(self.status & Status.CAL)


@dataclass(slots=True)
class Course:
    """What is known of one test. Times are monotonic. ``before``: readings ahead of the order; ``points``: those since.

    ``sent``: what became of the order, None: not known yet; ``reply`` the device's word for it. ``bound_s``: the latest end.
    ``unsent``: why the order never left; ``unsure``: nobody knows whether it did. ``runtime_s``: as predicted before.
    ``stopped``: why it is ended early, ``stop_kind`` in one word. ``watched_s``: since when this run of the agent watches.
    """

    asked: Asked
    rules: Rules
    began_s: float
    bound_s: float
    before: list[Point] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    sent: Outcome | None = None
    reply: str = ""
    unsent: str = ""
    unsure: bool = False
    watched_s: float = 0.0
    runtime_s: float | None = None
    stopped: str = ""
    stop_kind: str = ""
    longest_gap_s: float = 0.0
    first_s: float | None = None
    last_test_s: float | None = None
    carried: bool = False
    tested: bool = False
    low_s: float | None = None
    struck: bool = False
    _heavy: int = 0

    # -- told

    def see(self, point: Point) -> None:
        """Take the next reading in."""
        last_s = self.points[-1].mono_s if self.points else self.began_s
        self.longest_gap_s = max(self.longest_gap_s, point.mono_s - last_s)
        self.points.append(point)
        self.struck = self.struck or point.outage
        carries = self._carries(point)
        self.carried = self.carried or carries
        self.tested = self.tested or point.tests
        if point.tests or (carries and not self.tested):
            self.first_s = point.mono_s if self.first_s is None else self.first_s
            self.last_test_s = point.mono_s
        just_over = self.last_test_s is not None and point.mono_s - self.last_test_s <= OVER_S
        if just_over and point.status & Status.LB and self.low_s is None:
            self.low_s = point.mono_s  # a device that ends its test for a low battery may say both in one reading
        load = self.load_before
        moved = load is not None and point.load is not None and abs(point.load - load) > self.rules.load_change_percent
        self._heavy = self._heavy + 1 if moved and point.tests else 0

    @property
    def volts_before(self) -> float | None:
        """Battery voltage before the test."""
        volts = [each.volts for each in self.before if each.volts is not None]
        return median(volts) if volts else None

    @property
    def load_before(self) -> float | None:
        """Load before the test."""
        loads = [each.load for each in self.before if each.load is not None]
        return median(loads) if loads else None

    @property
    def lasted_s(self) -> float:
        """Seconds from the first reading that showed it to the last."""
        return 0.0 if self.first_s is None or self.last_test_s is None else self.last_test_s - self.first_s

    def _carries(self, point: Point) -> bool:
        before = self.volts_before
        return before is not None and point.volts is not None and point.volts <= CARRIED_BELOW * before

    # -- to be ended

    def reason_to_stop(self, now_s: float) -> tuple[str, str] | None:
        """Kind and text of why the test is to be ended now; None: let it go on."""
        last = self.points[-1] if self.points else None
        if self.struck:
            return "mains", f"mains failed after {self.lasted_s:.0f} s: an outage from then on"
        if now_s - max(self.began_s, self.watched_s, last.mono_s if last else 0.0) > LOST_S:
            return "contact", f"contact was lost after {self.lasted_s:.0f} s"
        if now_s >= self.bound_s and self.running:
            return "bound", f"it was not over after {self.bound_s - self.began_s:.0f} s"
        if last is None or self.first_s is None:
            return None
        if last.failed:
            return "failed", "the UPS says that it failed"
        if last.fault:
            return "fault", last.fault
        if self.low_s is not None:
            return "low", f"the battery was low after {self.low_s - self.first_s:.0f} s"
        cell_v = cell_volts(last.volts, last.nominal_v)
        if self.rules.warning_cell_v and cell_v is not None and cell_v < self.rules.warning_cell_v:
            return "low", f"the battery fell to {cell_v:.2f} V per cell after {last.mono_s - self.first_s:.0f} s"
        if self.asked.depth_percent is not None and self.depth_percent >= self.asked.depth_percent:
            return "depth", f"{self.depth_percent:.0f} % of the charge were taken out"
        if self._heavy >= LOAD_READINGS and last.load is not None:
            return "load", f"the load moved from {self.load_before or 0:.0f} to {last.load:.0f} %"
        return None

    @property
    def depth_percent(self) -> float:
        """Percent of charge taken out so far; 0 where no charge is told."""
        charges = [each.charge for each in (*self.before[-1:], *self.points) if each.charge is not None]
        return max(0.0, charges[0] - charges[-1]) if charges else 0.0

    # -- over

    @property
    def running(self) -> bool:
        """Whether the UPS said in its last reading of this run of the agent that it tests."""
        return bool(self.points) and self.points[-1].tests and self.points[-1].mono_s >= self.watched_s

    def over(self, now_s: float, *, contact: bool) -> bool:
        """Whether nothing more is to be expected."""
        if self.unsent or self.sent in (Outcome.REJECTED, Outcome.UNSUPPORTED):
            return True
        last = self.points[-1] if self.points else None
        if not contact or last is None or now_s - last.mono_s > LOST_S:
            return now_s >= max(self.bound_s, self.watched_s + RETURN_S)
        if self.first_s is None or self.last_test_s is None:
            return now_s - self.began_s >= NO_EFFECT_S
        if last.tests:
            return now_s >= self.bound_s + RETURN_S
        if not self.tested and not self.stopped and now_s < self.first_s + (self.asked.for_s or QUICK_S) + OVER_S:
            return False  # a unit without a test bit: its time tells
        quiet_s = last.mono_s - self.last_test_s if self.tested else now_s - self.first_s
        back = bool(last.status & Status.OL) or last.outage
        return (quiet_s >= OVER_S and back) or quiet_s >= RETURN_S

    # -- meaning

    def judge(self, now_s: float) -> tuple[Verdict, str]:
        """The verdict now that it is over, and the sentence that explains it."""
        last_s = self.points[-1].mono_s if self.points else self.began_s
        self.longest_gap_s = max(self.longest_gap_s, now_s - last_s)
        told = f" (it answered {self.reply!r})" if self.reply else ""
        if self.unsent:
            return Verdict.ABORTED, self.unsent
        if self.sent in (Outcome.REJECTED, Outcome.UNSUPPORTED):
            return Verdict.ABORTED, f"the UPS refused the test{told}"
        failed = self._failure()
        if failed and self.stop_kind != "mains":
            return Verdict.FAILED, failed
        if self.first_s is None:
            return self._nothing_seen(told)
        if self.tested and not self.carried and self.volts_before is not None:
            if self._unseen():
                return Verdict.INCONCLUSIVE, "too little was seen of it"
            return Verdict.NO_EFFECT, f"the UPS said for {self.lasted_s:.0f} s that it tests, but its battery voltage never fell"
        if self.stop_kind not in ("", "depth", "bound", "low"):
            return Verdict.ABORTED, self.stopped
        return self._passed()

    def _nothing_seen(self, told: str) -> tuple[Verdict, str]:
        if self.stopped and self.stop_kind not in ("bound", "depth", "low"):
            return Verdict.ABORTED, self.stopped
        if self.sent is Outcome.NO_ANSWER:
            return Verdict.INCONCLUSIVE, "the UPS did not answer the order, and no discharge was seen"
        if self.unsure:
            return Verdict.INCONCLUSIVE, "the agent stopped as it gave the order; no discharge was seen, it was not given again"
        if self._unseen():
            return Verdict.INCONCLUSIVE, "nobody watched while it may have run; it was not started again"
        return Verdict.NO_EFFECT, f"no discharge was seen within {NO_EFFECT_S:.0f} s of the order{told}"

    def _failure(self) -> str:
        """What shows that the battery failed; empty if nothing does."""
        if any(each.failed for each in self.points) and not any(each.failed for each in self.before):
            return "the UPS says that it failed"
        if self.first_s is None:
            return ""
        to_the_end = self.asked.kind == "deep" and self.asked.depth_percent is None
        own = self.points[-1].result == "failed" and not self.running
        if own and not to_the_end:
            return "the UPS says that its test failed"
        low_after_s = None if self.low_s is None else self.low_s - self.first_s
        if own and low_after_s is None and not self.stopped:
            low_after_s = self.lasted_s  # low ahead of the longest time it was ordered for: what a deep test is to find
        if self.stop_kind == "low" and low_after_s is None:
            low_after_s = self.lasted_s
        if low_after_s is None:
            return self._given_up()
        if to_the_end:
            half_s = (self.runtime_s or 0.0) / 2
            if low_after_s <= EARLY_LOW_S:
                return f"its battery was low after {low_after_s:.0f} s"
            if low_after_s < half_s:
                return f"its battery was low after {low_after_s:.0f} s, it was believed to last {self.runtime_s:.0f} s"
            return ""
        return f"its battery was low after {low_after_s:.0f} s of a {self.asked}"

    def _given_up(self) -> str:
        """A UPS ends a timed test early when its battery gets low (megatec-family.md section 10.5), and may not say so."""
        last = self.points[-1]
        asked_s = self.asked.for_s or 0.0
        own = not self.stopped and not self.struck and self.tested and not self.running and bool(last.status & Status.OL)
        if self.asked.kind == "timed" and own and not self._unseen() and self.lasted_s < asked_s / 2:
            return f"the UPS gave up after {self.lasted_s:.0f} of {asked_s:.0f} s"
        return ""

    def _unseen(self) -> bool:
        """Whether so little was watched that nothing can be said."""
        return self.longest_gap_s > min(LOST_S, max(5.0, (self.asked.for_s or QUICK_S) / 2))

    def _passed(self) -> tuple[Verdict, str]:
        if self.points[-1].result == "passed" and not self.running:
            own = "; the UPS says that it passed"
        elif self._unseen():
            return Verdict.INCONCLUSIVE, f"it ran, but was not watched for {self.longest_gap_s:.0f} s of it"
        else:
            own = ""
        if self.volts_before is None and not own:
            return Verdict.INCONCLUSIVE, f"it ran for {self.lasted_s:.0f} s, but the UPS tells no battery voltage"
        if self.running or not self.points[-1].status & Status.OL:
            return Verdict.INCONCLUSIVE, f"it ran for {self.lasted_s:.0f} s, but the UPS did not return to mains"
        wanted_s = self.asked.for_s or (QUICK_S if self.asked.kind == "quick" else 0.0)
        if self.asked.kind == "timed" and self.lasted_s < 0.9 * wanted_s - 10 and not self.stop_kind:
            return Verdict.INCONCLUSIVE, f"the UPS ended it by itself after {self.lasted_s:.0f} of {wanted_s:.0f} s"
        late = "; it had to be told to stop" if self.stop_kind == "bound" and self.asked.kind != "deep" else ""
        why = f", until {self.stopped}" if self.stop_kind in ("depth", "low") else ""
        if not why and self.low_s is not None:
            why = ", until the battery was low"
        return Verdict.PASSED, f"{self._figures()}{why}{own}{late}"

    def _figures(self) -> str:
        load = self.load_before
        carried = f"carried {load:.0f} % load" if load is not None else "carried its load"
        lowest = self.lowest_v
        volts = f", {self.volts_before:.1f} to {lowest:.1f} V" if self.volts_before is not None and lowest is not None else ""
        return f"{carried} for {self.lasted_s:.0f} s{volts}"

    @property
    def lowest_v(self) -> float | None:
        """Lowest battery voltage of the test."""
        volts = [each.volts for each in self.points if each.volts is not None]
        return min(volts) if volts else None

    def evidence(self) -> dict[str, Any]:
        """What the verdict rests on, for the record; the curve is kept beside it."""
        cell = next((cell_volts(self.lowest_v, each.nominal_v) for each in self.points if each.nominal_v), None)
        flags = 0
        for each in self.points:
            flags |= each.status
        charges = [each.charge for each in (*self.before[-1:], *self.points) if each.charge is not None]
        return {
            "order": None if self.sent is None else self.sent.value,
            "reply": self.reply or None,
            "lasted_s": round(self.lasted_s, 1),
            "test_bit": self.tested,
            "discharge": self.carried,
            "volts_before": self.volts_before,
            "lowest_volts": self.lowest_v,
            "lowest_cell_volts": None if cell is None else round(cell, 3),
            "load_percent": self.load_before,
            "charge_before": charges[0] if charges else None,
            "charge_after": charges[-1] if charges else None,
            "low_after_s": None if self.low_s is None or self.first_s is None else round(self.low_s - self.first_s, 1),
            "status_seen": flags,
            "device_result": (self.points[-1].result or None) if self.points else None,
            "stopped": self.stop_kind or None,
            "readings": len(self.points),
            "longest_gap_s": round(self.longest_gap_s, 1),
        }
