"""The stream to the interfaces: whatever happens to states, the mirror has them as the core has them."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qxfleet.agent.forced import Flag, Forced
from qxfleet.errors import OrderNotSupported
from qxfleet.interfaces.link import HEAD, down
from qxfleet.interfaces.mirror import Mirror
from qxfleet.interfaces.stream import Changes, News, quick
from qxfleet.model.events import Link
from qxfleet.model.reading import Reading
from qxfleet.model.state import DeviceState
from qxfleet.model.status import Status


class Core:
    """What a stream is made of."""

    def __init__(self) -> None:
        self.states: dict[str, DeviceState] = {}
        self.flags: dict[Flag, Forced] = {}
        self.fleet: Any = self
        self.forced: Any = SimpleNamespace(all=lambda: self.flags)

    def snapshot(self) -> dict[str, DeviceState]:
        return self.states

    def orders(self, name: str) -> tuple[()]:
        if self.states[name].link is not Link.ONLINE:
            raise OrderNotSupported("not known yet")
        return ()

    def settings(self, name: str) -> tuple[()]:
        return ()

    def session(self, name: str) -> Any:
        return SimpleNamespace(dialect=None)


def mirror() -> Mirror:
    """One without a wire."""
    made = Mirror.__new__(Mirror)
    made.fleet = SimpleNamespace(states={}, by_name={}, abilities={})  # type: ignore[assignment]
    made.forced = SimpleNamespace(mirror=lambda flags: setattr(made, "flags", dict(flags)))  # type: ignore[assignment]
    made.pulse = None
    return made


READINGS = st.builds(
    Reading, st.just("u"), st.integers(0, 100), st.floats(0, 100), st.sampled_from([Status.OL, Status.OB]),
    st.dictionaries(st.sampled_from(["input.voltage", "ups.load", "battery.charge"]), st.floats(0, 300)),
    alarms=st.sampled_from([(), ("hot",)]),
)  # fmt: skip
STATES = st.builds(
    DeviceState, st.sampled_from(["a", "b", "c"]), link=st.sampled_from(Link), reading=st.none() | READINGS,
    status=st.sampled_from([int(Status.OL), int(Status.OB)]),
)  # fmt: skip


@given(st.lists(st.lists(STATES | st.sampled_from(["a", "b", "c"]), max_size=4), max_size=8))
def test_the_mirror_has_what_the_core_has(turns: list[list[DeviceState | str]]) -> None:
    """A state is a change, a name takes a UPS away."""
    core, there = Core(), mirror()
    changes = Changes(core)  # type: ignore[arg-type]
    for turn in turns:
        for each in turn:
            if isinstance(each, str):
                core.states.pop(each, None)
            else:
                core.states[each.name] = each
        news = changes.news(abilities=False)
        if news is not None:
            message = down(news)
            taken = pickle.loads(message[HEAD.size :])
            assert isinstance(taken, News)
            there._take(taken)
        assert there.fleet.states == core.states
        assert list(there.fleet.states) == list(core.states)
        for name, state in core.states.items():
            assert bool(there.fleet.abilities[name].unknown) == (state.link is not Link.ONLINE)
        assert changes.news(abilities=False) is None, "nothing is said twice"


def test_values_alone_go_in_short_form() -> None:
    values = {"input.voltage": 230.1, "ups.load": 20.0}
    before = DeviceState("u", link=Link.ONLINE, reading=Reading("u", 1, 1.0, Status.OL, values), status=int(Status.OL))
    newer = Reading("u", 2, 3.0, Status.OL, {**values, "ups.load": 21.0})
    after = DeviceState("u", link=Link.ONLINE, reading=newer, status=int(Status.OL))
    assert quick(before, after) == ("u", 2, 3.0, (230.1, 21.0))
    for other in (
        DeviceState("u", link=Link.STALE, reading=after.reading, status=int(Status.OL)),
        DeviceState("u", link=Link.ONLINE, reading=after.reading, status=int(Status.OB)),
        DeviceState("u", link=Link.ONLINE, reading=Reading("u", 2, 3.0, Status.OB, values), status=int(Status.OL)),
        DeviceState("u", link=Link.ONLINE, reading=Reading("u", 2, 3.0, Status.OL, {"ups.load": 1.0}), status=int(Status.OL)),
        DeviceState("u", link=Link.ONLINE, reading=None, status=int(Status.OL)),
    ):
        assert quick(before, other) is None
