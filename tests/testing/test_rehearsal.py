"""A plan tried on a desk: the real agent on simulated UPSes and hosts, and a verdict by what really became of these."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from qxfleet.config.load import Config, load
from qxfleet.shutdown.rehearse import Battery
from qxfleet.testing.battery import Battery as Cells
from qxfleet.testing.desk import Desk, ampere_hours, left_s
from qxfleet.testing.rehearsal import Outcome, Play
from tests.virtual import run_virtual

PLAN = """
[agent]
name = "desk"
state = "state.db"
control = "agent.sock"

[[ups]]
name = "a"
port = "/dev/never-there"

[[ups]]
name = "b"
port = "socket://never.invalid:4001"

[[load]]
name = "web"
fed_by = ["a", "b"]
stop = { command = ["/never/there", "stop"] }
down_when = { tcp_closed = "192.0.2.1:22" }
start = { wake_on_lan = "52:54:00:12:34:56" }
stop_time = "40s"

[[load]]
name = "app"
fed_by = ["a", "b"]
after = ["web"]
stop = { nut = true }
stop_time = "40s"

[[load]]
name = "db"
fed_by = ["a", "b"]
after = ["app"]
stop = { webhook = "http://192.0.2.2/stop" }
start = { webhook = "http://192.0.2.2/start" }
down_when = { exit = ["/never/there", "down"] }
stop_time = "40s"

[[load]]
name = "lamp"
fed_by = ["a", "b"]
stop = { ups = "a", outlet = 1 }
start = { ups = "a", outlet = 1 }
down_when = { tcp_closed = "192.0.2.4:22" }
stop_time = "40s"

[shutdown]
start_when = { on_battery_for = "60s", low_battery = true }
ups_off = { offdelay = "30s", ondelay = "60s", stagger = "5s" }
return = { charge_above = 1, mains_stable_for = "20s" }
"""

HOST = """
host = "mgmt"

[[load]]
name = "mgmt"
fed_by = ["a", "b"]
stop = { command = ["/never/there", "poweroff"] }
stop_time = "40s"
"""


def config_of(folder: Path, text: str) -> Config:
    file = folder / "qxfleet.toml"
    file.write_text(text)
    return load(file)


def rehearse(
    folder: Path, text: str, *, runtime_s: float = 1200.0, hangs: Collection[str] = (), truth: float = 1.0,
    back_s: float | None = None, failing: Collection[str] = ("a", "b"), back: Collection[str] = (),
) -> Outcome:  # fmt: skip
    config = config_of(folder, text)
    desk = Desk(config, {ups: Battery(runtime_s) for ups in "ab"}, hangs=hangs, truth=truth)
    play = Play(desk, config, folder, tuple(failing), back_s=back_s, back=back)
    run_virtual(play.run())
    return play.outcome


def steps(outcome: Outcome, act: str) -> list[str]:
    return [step.target for step in outcome.steps if step.act == act]


def problems(outcome: Outcome) -> list[tuple[str, str]]:
    return [(each.subject, each.text) for each in outcome.findings if each.severity == "problem"]


@pytest.mark.more
def test_every_way_of_stopping_and_the_agents_own_host(tmp_path: Path) -> None:
    outcome = rehearse(tmp_path, PLAN + HOST)
    assert problems(outcome) == []
    assert outcome.holds and outcome.standing == {}
    assert sorted(steps(outcome, "stop")) == ["app", "db", "lamp", "mgmt", "web"]
    stops = steps(outcome, "stop")
    assert stops.index("web") < stops.index("app") < stops.index("db") and stops[-1] == "mgmt"
    assert steps(outcome, "cut") == ["a", "b"]
    starts = steps(outcome, "start")
    assert set(starts) == {"db", "web", "lamp"} and starts.index("db") < starts.index("web")
    assert len(outcome.ended) == 1
    assert outcome.ended[0].startswith("5 loads stopped; 2 UPSes cut; all are back; it took ")
    for name in ("web", "app", "db", "mgmt"):
        states = [span.state for span in outcome.loads[name]]
        assert states == ["up", "stopping", "down", "starting", "up"], name
    assert [span.state for span in outcome.upses["a"]] == ["mains", "battery", "off", "mains"] or (
        [span.state for span in outcome.upses["a"]] == ["battery", "off", "mains"]
    )


@pytest.mark.more
def test_a_load_that_hangs_is_a_problem_and_its_upses_are_not_cut(tmp_path: Path) -> None:
    outcome = rehearse(tmp_path, PLAN, hangs=["db"], back_s=300.0)
    assert not outcome.holds
    assert ("db", "would not stop: not down after 40 s: HTTP 200") in problems(outcome)
    assert outcome.standing.keys() == {"web", "app"}  # they stand on it, and wait for somebody to see to it
    assert "start it by hand" in outcome.standing["app"]
    assert steps(outcome, "cut") == []


@pytest.mark.more
def test_batteries_that_hold_far_less_than_they_promise(tmp_path: Path) -> None:
    text = PLAN.replace('on_battery_for = "60s", low_battery = true', 'runtime_below = "auto"')
    outcome = rehearse(tmp_path, text, runtime_s=700.0, truth=0.2)
    assert not outcome.holds
    assert any("lost its power while it ran" in text for _, text in problems(outcome))
    sound = rehearse(tmp_path, text, runtime_s=700.0)
    assert sound.holds, problems(sound)


@pytest.mark.more
def test_of_one_feed_alone_nothing_stops(tmp_path: Path) -> None:
    outcome = rehearse(tmp_path, PLAN, failing=["a"], back_s=300.0)
    assert outcome.holds and outcome.steps == []
    assert any("nothing had to be stopped" in each.text for each in outcome.findings)


@pytest.mark.more
def test_one_feed_comes_back_sooner_than_the_other(tmp_path: Path) -> None:
    outcome = rehearse(tmp_path, PLAN, back_s=90.0, back=["b"])
    assert [said.text for said in outcome.said if said.name == "mains-on"] == ["mains are back: b", "mains are back: a"]
    assert outcome.holds, problems(outcome)


@pytest.mark.parametrize(("watts", "runtime_s"), [(100.0, 300.0), (400.0, 720.0), (2000.0, 5400.0)])
def test_a_battery_is_as_large_as_its_runtime_asks_for(watts: float, runtime_s: float) -> None:
    cells = Cells(24.0, ampere_hours(24.0, watts, runtime_s))
    cells.set_charge(1.0)
    assert left_s(cells, watts, runtime_s / 150) == pytest.approx(runtime_s, rel=0.05)
    cells.discharge(watts, runtime_s / 2)
    assert left_s(cells, watts) == pytest.approx(runtime_s / 2, rel=0.15)
