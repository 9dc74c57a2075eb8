"""``[[load]]`` and ``[shutdown]``: what is written means what the outside face says."""

from __future__ import annotations

from pathlib import Path

import pytest

from qxfleet.config.load import Config, load
from qxfleet.model.loads import (
    Command,
    CommandSays,
    Condition,
    NutClients,
    NutLoggedOut,
    Outlet,
    TcpClosed,
    Trigger,
    UpsLoadBelow,
    UpsOff,
    WakeOnLan,
    Webhook,
)  # fmt: skip

UPSES = '[[ups]]\nname = "rack1-a"\nport = "/dev/ttyS0"\n[[ups]]\nname = "rack1-b"\nport = "/dev/ttyS1"\n'
LOW = Condition("low-battery")

CONTRACT = """
[[load]]
name = "app-1"
fed_by = ["rack1-a", "rack1-b"]
stop = { nut = true }
[[load]]
name = "app-2"
fed_by = ["rack1-a", "rack1-b"]
stop = { webhook = "https://host/stop" }
[[load]]
name = "db-1"
fed_by = ["rack1-a", "rack1-b"]
needs_feeds = 1
after = ["app-1", "app-2"]
stop = { command = ["ssh", "root@db-1", "systemctl poweroff"] }
down_when = { tcp_closed = "db-1:22" }
stop_time = "120s"
[shutdown]
start_when = { runtime_below = "auto", charge_below = 30, on_battery_for = "20m", low_battery = true }
on_power_return = "cancel"
ups_off = { offdelay = "60s", ondelay = "180s", stagger = "10s" }
"""


def read(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "qxfleet.toml"
    file.write_text(UPSES + text)
    return load(file)


def test_the_tables_of_the_outside_face(tmp_path: Path) -> None:
    plan = read(tmp_path, CONTRACT).shutdown
    app, hook, db = plan.loads
    assert (db.name, db.fed_by, db.needs_feeds, db.after) == ("db-1", ("rack1-a", "rack1-b"), 1, ("app-1", "app-2"))
    assert db.stop == Command(("ssh", "root@db-1", "systemctl poweroff"))
    assert db.down_when == TcpClosed("db-1", 22)
    assert db.stop_time_s == 120
    assert (app.stop, app.down_when) == (NutClients(), NutLoggedOut())
    assert hook.stop == Webhook("https://host/stop")
    assert plan.trigger == Trigger(
        (Condition("on-battery-for", 1200), Condition("charge-below", 30), Condition("runtime-below"), LOW)
    )
    assert plan.ups_off == UpsOff("return", 60, 180, 10)
    assert plan.on_power_return == "cancel"
    assert not plan.armed


def test_without_any_of_it_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert not read(tmp_path, "").shutdown.loads


def test_a_load_overrides_conditions_one_by_one(tmp_path: Path) -> None:
    plan = read(tmp_path, """
[[load]]
name = "web"
fed_by = ["rack1-a"]
stop_when = { on_battery_for = "2m", runtime_below = false, all = { charge_below = 80, temperature_above = 40 } }
[shutdown]
start_when = { runtime_below = "8m", low_battery = true }
""").shutdown
    assert plan.loads[0].trigger == Trigger(
        (Condition("on-battery-for", 120), LOW), (Condition("charge-below", 80), Condition("temperature-above", 40))
    )
    assert plan.trigger == Trigger((Condition("runtime-below", 480), LOW))


@pytest.mark.parametrize(("line", "stop", "down", "start"), [
    ('stop = { outlet = 2 }', Outlet("rack1-a", 2), None, None),
    ('stop = { nut = true, user = "nas" }\ndown_when = { ups_load_below = 5.5 }', NutClients("nas"), UpsLoadBelow(5.5), None),
    ('down_when = { exit = ["ping", "x"] }\nstart = { wake_on_lan = "52-54-00-12-34-AB", broadcast = "10.0.0.255" }',
     None, CommandSays(("ping", "x")), WakeOnLan("52:54:00:12:34:ab", "10.0.0.255")),
    ('start = { webhook = "http://h/", token_file = "/k" }', None, None, Webhook("http://h/", "/k")),
    ('down_when = { tcp_closed = "[2001:db8::7]:22" }\nstart = { outlet = 1, ups = "rack1-b" }',
     None, TcpClosed("2001:db8::7", 22), Outlet("rack1-b", 1)),
])  # fmt: skip
def test_ways_to_stop_to_look_and_to_start(tmp_path: Path, line: str, stop: object, down: object, start: object) -> None:
    only = read(tmp_path, f'[[load]]\nname = "x"\nfed_by = ["rack1-a"]\n{line}\n').shutdown.loads[0]
    assert (only.stop, only.down_when, only.start) == (stop, down, start)


def test_stages_make_circles_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"goes in a circle \(by their stages\)"):
        read(tmp_path, """
[[load]]
name = "a"
fed_by = ["rack1-a"]
stage = 1
after = ["b"]
[[load]]
name = "b"
fed_by = ["rack1-a"]
stage = 2
""")


def test_what_is_hardly_meant_is_told(tmp_path: Path) -> None:
    warnings = read(tmp_path, '[shutdown]\nstart_when = { charge_below = 20 }\n').warnings
    assert any("no [[load]] is configured" in each for each in warnings)
    one = '[[load]]\nname = "x"\nfed_by = ["rack1-a"]\n[shutdown]\nstart_when = { charge_below = 20 }\n'
    warnings = read(tmp_path, one).warnings
    assert any("low_battery is off" in each for each in warnings)
