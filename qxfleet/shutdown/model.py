"""The nouns of a staged shutdown: what is seen, what was done, what is decided.

What is configured (loads, triggers, the plan) stands in :mod:`qxfleet.model.loads`.

All values are frozen; times are seconds on the injected clock's monotonic scale (``_s``). After a restart the reader of a record
places its times on the new scale by the wall clock they were labelled with.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from qxfleet.model.loads import Condition, Trigger

# -- what is seen


class Mains(enum.Enum):
    """What feeds a UPS. A battery test counts as ON; UNKNOWN until it was first seen."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class UpsSeen:
    """One UPS as last seen, at ``seen_s``. Lost contact leaves everything as it was and sets ``contact`` False.

    ``since_s``: since when mains are so. ``output_since_s``: since when it has been seen, without a gap in contact, with its
    output on; None when off or not in contact. ``counting_down``: it says that a shutdown timer runs. ``runtime_s`` and
    ``runtime_low_s``: predicted seconds to go from ``seen_s``, likely and pessimistic. ``load_w``, ``load_percent``: what it
    carries, of at most ``rated_w``.
    """

    mains: Mains = Mains.UNKNOWN
    since_s: float = 0.0
    seen_s: float = 0.0
    contact: bool = True
    output_since_s: float | None = None
    counting_down: bool = False
    low_battery: bool = False
    charge: float | None = None
    runtime_s: float | None = None
    runtime_low_s: float | None = None
    load_percent: float | None = None
    load_w: float | None = None
    rated_w: float | None = None
    temperature_c: float | None = None
    testing: bool = False
    maintenance: bool = False


@dataclass(frozen=True, slots=True)
class LoadSeen:
    """Whether a load is up; None: can't be told. ``since_s``: since when this is so.

    ``closed``: its port takes no connections, or its NUT clients are logged out, and it was not seen to be off; its host may
    still be going down.
    """

    up: bool | None = None
    since_s: float = 0.0
    closed: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """All that is observed at one moment; what is not in the mappings was never seen. ``booted_s``: since when the machine runs
    on which this is worked out. ``looking``: loads whose first look is not over: that nothing was seen of them says nothing yet.
    """

    upses: Mapping[str, UpsSeen] = field(default_factory=dict)
    loads: Mapping[str, LoadSeen] = field(default_factory=dict)
    booted_s: float = float("-inf")
    looking: frozenset[str] = frozenset()


# -- what was done


class Act(enum.Enum):
    """What a step does. CUT is shutdown.return or shutdown.stayoff, CALL_BACK shutdown.stop, SWITCH_ON load.on."""

    STOP = "stop"
    START = "start"
    CUT = "cut"
    CALL_BACK = "call-back"
    SWITCH_ON = "switch-on"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do to one load (STOP, START) or UPS (the others).

    ``why`` is a sentence; ``due_to`` names the UPSes whose trouble it is for; ``offdelay_s``, ``ondelay_s`` and ``stay_off``
    are a CUT's; ``limit_s``: the act itself is given up after this long.
    """

    act: Act
    target: str
    why: str
    due_to: tuple[str, ...] = ()
    attempt: int = 1
    limit_s: float = 30.0
    offdelay_s: float = 0.0
    ondelay_s: float = 0.0
    stay_off: bool = False


class Answer(enum.Enum):
    """What came of the act itself, before its effect is seen.

    ACCEPTED: the target said yes (for an unarmed run: would have been asked). FAILED: it was not done for certain (refused, exit
    code, no connection). UNSUPPORTED: there is no such thing on this device. UNCONFIRMED: sent, and nobody knows.
    INTERRUPTED: the agent ended between intent and answer; set when the record is read back.
    """

    ACCEPTED = "accepted"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    UNCONFIRMED = "unconfirmed"
    INTERRUPTED = "interrupted"


class Result(enum.Enum):
    """How a step ended, by what was seen.

    DONE: a load is down (STOP) or up (START), a UPS was off and is back (CUT), no longer counts down (CALL_BACK), is on
    (SWITCH_ON). NOT_SEEN: a STOP whose time is over, of a load that nothing shows to be up or off; the plan goes on as if it were
    down. FAILED: not so, and nothing more is tried by this step. NO_EFFECT: a CUT that can be shown not to have happened. UNDONE:
    a CUT that was called back.
    """

    DONE = "done"
    NOT_SEEN = "not-seen-off"
    FAILED = "failed"
    NO_EFFECT = "no-effect"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Taken:
    """One step of a run as committed: the intent at ``begun_s``, then the answer, then the result."""

    number: int
    step: Step
    begun_s: float
    answer: Answer | None = None
    answered_s: float | None = None
    result: Result | None = None
    ended_s: float | None = None
    text: str = ""

    @property
    def down(self) -> bool:
        """A STOP behind which the plan goes on: the load was seen off, or its time is over and nothing tells."""
        return self.result in (Result.DONE, Result.NOT_SEEN)


@dataclass(frozen=True, slots=True)
class Ordered:
    """An operator's wish: these loads (and what must be down before them) are stopped, triggers or not.

    ``cut``: the UPSes that feed nothing else are then told to cut, mains or not. ``drill``: they come back once all are down.
    ``released``: the wish is over, what was stopped comes back.
    """

    loads: frozenset[str]
    actor: str
    cut: bool = False
    drill: bool = False
    released: bool = False


@dataclass(frozen=True, slots=True)
class UpsMemory:
    """What the triggers remember of one UPS: seconds on battery since mains were last stable, since when each condition holds
    (by its position), and which triggers have fired in this outage."""

    on_battery_s: float = 0.0
    holds_since_s: Mapping[Condition, float] = field(default_factory=dict)
    fired: Mapping[Trigger, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered between two looks, as of ``at_s``; kept by the loop, and never needed after a restart.

    ``spared``: the UPSes that were on battery when an operator cancelled, and have been since; None before.
    """

    at_s: float | None = None
    upses: Mapping[str, UpsMemory] = field(default_factory=dict)
    spared: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One run so far: what was committed, plus the triggers' memory. An empty one stands for "no run": with nothing to do,
    :func:`next_steps` leaves it empty.

    ``armed`` is the plan's at the run's beginning; ``cancelled``: an operator wants nothing more stopped until mains are back.
    """

    armed: bool = False
    taken: tuple[Taken, ...] = ()
    ordered: Ordered | None = None
    cancelled: bool = False
    memory: Memory = Memory()

    def begun(self, step: Step, now_s: float) -> Record:
        """With one more intent, numbered on from 1."""
        return replace(self, taken=(*self.taken, Taken(len(self.taken) + 1, step, now_s)))

    def answered(self, number: int, answer: Answer, now_s: float, text: str = "") -> Record:
        """With the answer to a step."""
        return self._changed(number, lambda taken: replace(taken, answer=answer, answered_s=now_s, text=text))

    def ended(self, end: End, now_s: float) -> Record:
        """With the end of a step."""
        return self._changed(
            end.number, lambda taken: replace(taken, result=end.result, ended_s=now_s, text=end.text or taken.text)
        )

    def _changed(self, number: int, change: Callable[[Taken], Taken]) -> Record:
        return replace(self, taken=tuple(change(each) if each.number == number else each for each in self.taken))


# -- what is decided

ACTOR = "shutdown:plan"
"""Who acts where the plan does."""


@dataclass(frozen=True, slots=True)
class End:
    """A step has come to its end, as the planner judges from what is seen."""

    number: int
    result: Result
    text: str = ""


class LoadPhase(enum.Enum):
    """Where a load stands in a run. WAITING: must go, and waits for others to be down first; DOWN: by this run; NOT_SEEN:
    told to stop, its time is over, and nothing shows it off; STUCK: would not stop in its time; STRANDED: down,
    power is good, and nothing of ours can start it."""

    UNTOUCHED = "untouched"
    WAITING = "waiting"
    STOPPING = "stopping"
    DOWN = "down"
    NOT_SEEN = "not-seen-off"
    STUCK = "stuck"
    STARTING = "starting"
    STRANDED = "stranded"
    BACK = "back"


class UpsPhase(enum.Enum):
    """Where a UPS stands in a run.

    TRIGGERED: on battery, and something on it must go. TELLING: an order to cut is on its way, not known yet with what success.
    TOLD: counts down to its cut, mains are off. LATE: its countdown is over and its output is on.
    RACING: mains came back while it counts down; it goes off and returns by itself, unless something on it is up: then it is
    called back. OFF: the cut has happened. RETURNED: and power is back. UNTOLD: accepted or not, the cut has not happened.
    """

    GOOD = "good"
    ON_BATTERY = "on-battery"
    TRIGGERED = "triggered"
    TELLING = "telling"
    TOLD = "told"
    RACING = "racing"
    LATE = "late"
    OFF = "off"
    RETURNED = "returned"
    UNTOLD = "untold"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to happen now. The loop commits ``end`` and then the intents of ``begin``, and only then acts.

    ``memory`` takes the place of the record's. ``look_s``: look again by then even if nothing changes. ``finished``: the run is
    over, in one sentence. ``forced``: loads whose NUT clients are told to shut down, each with the UPSes that tell them.
    ``by_hand``: what only a person can do, by load or UPS. ``to_cut``: UPSes whose loads are down and that are to be told to
    cut yet, for the first time or again, or that have not answered yet. The phases are for people; loads and UPSes without
    trouble are left out of them.
    """

    begin: tuple[Step, ...] = ()
    end: tuple[End, ...] = ()
    memory: Memory = Memory()
    look_s: float | None = None
    finished: str | None = None
    forced: Mapping[str, frozenset[str]] = field(default_factory=dict)
    by_hand: Mapping[str, str] = field(default_factory=dict)
    to_cut: tuple[str, ...] = ()
    loads: Mapping[str, LoadPhase] = field(default_factory=dict)
    upses: Mapping[str, UpsPhase] = field(default_factory=dict)
