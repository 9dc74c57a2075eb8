"""NUT's ups.conf, in the shapes people have published, becomes a configuration that ``check`` takes.

What is expected follows from the manual pages: minutes of blazer, megatec and the old voltronic drivers against seconds here, the
renamed options of nutdrv_qx's notes for previous users, and ups.conf(5) for quotes, comments and flags.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qxfleet.config.load import Config, load
from qxfleet.config.nut.syntax import lines, sections
from qxfleet.config.nut.toml import block_text, ups_text
from qxfleet.config.nut.ups import import_ups_conf
from qxfleet.config.nut.upsmon import import_upsmon
from qxfleet.config.nut.users import import_users
from qxfleet.model.loads import Command
from qxfleet.model.password import matches

FILES = sorted((Path(__file__).parent / "nut").glob("*.conf"))


def carried(file: Path, tmp_path: Path) -> tuple[Config, list[str]]:
    """The configuration an import gives, as ``check`` reads it, and every note."""
    imported, loose = import_ups_conf(file.read_text(), file.name)
    written = tmp_path / "qxfleet.toml"
    written.write_text("\n".join(ups_text(ups) for ups in imported))
    return load(written), [str(note) for note in (*loose, *(note for ups in imported for note in ups.notes))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_check_accepts_what_import_writes(file: Path, tmp_path: Path) -> None:
    assert carried(file, tmp_path)[0].ups


def named(name: str) -> Path:
    return next(file for file in FILES if name in file.name)


EXPECTED: dict[str, dict[str, dict[str, Any]]] = {
    "blazer-minutes": {
        "RPUPS": {
            "port": "/dev/ttyUSB0", "ondelay_s": 60, "offdelay_s": 60, "runtimecal": (1500.0, 100.0, 3000.0, 50.0),
            "defaults": {"battery.voltage.high": 4.1, "battery.voltage.low": 3.45, "battery.voltage.nominal": 3.7},
        },
    },
    "blazer-low-marks": {
        "ups": {
            "poll_interval_s": 5.0, "ondelay_s": 60, "offdelay_s": 300, "ignorelb": True, "description": "MT1000S",
            "overrides": {"battery.charge.low": 45.0},
        },
    },
    "two-on-two-buses": {
        "ups1": {"port": "auto", "usb": {"vendorid": "0665", "productid": "5161", "bus": "001"}},
        "ups2": {"port": "auto", "usb": {"vendorid": "0665", "productid": "5161", "bus": "002"}},
    },
    "blazer-usb-subdrivers": {
        "by50s": {"port": "auto", "usb": {"vendorid": "0590", "productid": "0081", "subdriver": "ippon"}},
        "aeg": {"usb": {"vendorid": "0001", "productid": "0000", "bus": "005", "subdriver": "krauler", "langid_fix": "0x409"}},
    },
    "megatec": {
        "mustek": {
            "ondelay_s": 300, "offdelay_s": 120, "cablepower": "reverse", "overrides": {"device.mfr": "Mustek"},
            "defaults": {"battery.voltage.low": 21.5, "battery.voltage.high": 27.4},
        },
        "plexus": {"ondelay_s": 120, "port": "auto"},
    },
    "voltronic": {
        "volt-one": {
            "dialect": "voltronic", "ondelay_s": 180,
            "device_settings": {
                "battery_number": "2", "eco_mode": "enabled", "max_bypass_volt": "264", "output_phase_angle": "120",
            },
        },
    },
    "ignorelb": {"ctb-1200": {"offdelay_s": 18, "ondelay_s": 1800, "ignorelb": True}},
    "protocols": {
        "meunobreak": {"dialect": "q1", "norating": False, "port": "/dev/ttyACM0"},
        "hunnox": {"dialect": "hunnox", "port": "auto"},
        "claire": {"full_interval_s": 60.0, "stayoff": True, "chargetime_s": 43200.0, "idleload_percent": 10.0},
    },
    "flags": {"tsshara": {"poll_interval_s": 15.0, "cablepower": "reverse", "novendor": True}},
    "alike": {"a": {"port": "auto"}, "b": {"usb": {"serial": "20100826"}}},
}  # fmt: skip


@pytest.mark.parametrize("shape", EXPECTED)
def test_every_option_means_what_it_meant(shape: str, tmp_path: Path) -> None:
    config, _ = carried(named(shape), tmp_path)
    assert {ups.name: {key: getattr(ups, key) for key in EXPECTED[shape][ups.name]} for ups in config.ups} == EXPECTED[shape]


NOTES = {
    "blazer-low-marks": ["blazer-low-marks.conf:10: [ups] override.battery.runtime.low: not carried over, expected a number"],
    "two-on-two-buses": [
        "conf:22: [apc] driver usbhid-ups is not for the protocols that qxfleet speaks",
        "conf:7: [ups1] device: not carried over", "conf:8: [ups1] busport: not carried over",
    ],
    "megatec": ["conf:8: [mustek] lowbatt: not carried over"],
    "ignorelb": ["conf:1: user: not carried over"],
    "protocols": [
        "[meunobreak] norating: not carried over",
        "[claire] allow_killpower: not carried over", "[claire] sdcommands: not carried over",
    ],
    "alike": ["conf:8: [c] written as a comment, nothing tells this UPS from a"],
}  # fmt: skip


@pytest.mark.parametrize("shape", [shape for shape in EXPECTED if shape != "voltronic"])
def test_what_is_lost_is_told(shape: str, tmp_path: Path) -> None:
    _, notes = carried(named(shape), tmp_path)
    expected = NOTES.get(shape, [])
    assert len(notes) == len(expected)
    for note, part in zip(notes, expected, strict=True):
        assert part in note


def test_settings_of_the_device_become_a_profile(tmp_path: Path) -> None:
    config, notes = carried(named("voltronic"), tmp_path)
    [profile] = config.profiles
    assert (profile.name, profile.upses) == ("volt-one-as-in-nut", ("volt-one",))
    assert dict(profile.settings) == {
        "battery.packs": "2", "ups.start.auto": "yes", "battery.protection": "no", "outlet.1.delay.shutdown": "600",
        "battery.type": "Li",
    }  # fmt: skip
    assert [note.partition(": ")[2] for note in notes] == ["[volt one] renamed to volt-one"]


def test_words_quotes_and_comments() -> None:
    text = 'a = "b c" # d\n[x]\nflag\nkey="q\\"uote" \n"two\\\nlines" = 1\n'
    assert [(line.number, line.words) for line in lines(text)] == [
        (1, ("a", "=", "b c")), (2, ("[x]",)), (3, ("flag",)), (4, ("key", "=", 'q"uote')), (5, ("twolines", "=", "1")),
    ]  # fmt: skip
    above, [section] = sections("pollinterval = 3\n[a b]\n driver=x\n")
    assert (above[0].key, above[0].value, section.name, section.entries[0].value) == ("pollinterval", "3", "a b", "x")


USERS = """
[admin]
    password = "s e#cret"
    actions = SET
    actions = FSD
    instcmds = ALL
[operator]
    password = x
    instcmds = test.battery.start test.battery.stop
    instcmds = beeper.toggle
[upsmon_remote]
    password  = pass
    upsmon slave
[monitor]
    password = 12345678
    upsmon primary
    allowfrom = localhost
[nobody]
    upsmon = secondary
"""
"""upsd.users(5): actions and instcmds may stand more than once; master and slave are the words before 2.8."""


def test_users_keep_their_rights_and_lose_their_clear_passwords(tmp_path: Path) -> None:
    users, loose = import_users(USERS, "upsd.users")
    written = tmp_path / "qxfleet.toml"
    written.write_text("\n".join(block_text("user", user.table, user.notes) for user in users))
    by_name = {user.name: user for user in load(written).faces.users}
    assert list(by_name) == ["admin", "operator", "upsmon_remote", "monitor"]
    assert by_name["admin"].rights == {"read", "set", "fsd", "command"} and by_name["admin"].instcmds == ()
    assert by_name["operator"].instcmds == ("test.battery.start", "test.battery.stop", "beeper.toggle")
    assert (by_name["upsmon_remote"].upsmon, by_name["monitor"].upsmon) == ("secondary", "primary")
    assert matches("s e#cret", by_name["admin"].kept) and "cret" not in written.read_text()
    assert [str(note) for note in loose] == ["upsd.users:18: [nobody] no password: left out"]
    assert [note.text for user in users for note in user.notes if "allowfrom" in note.text]


UPSMON = """
MONITOR rack1-a@localhost 1 monuser pass master
MONITOR rack1-b@localhost:3493 1 monuser pass primary
MONITOR other@192.168.1.9 1 monuser pass slave
MINSUPPLIES 1
SHUTDOWNCMD "/sbin/shutdown -h +0"
NOTIFYCMD /usr/sbin/upssched
NOTIFYFLAG ONLINE SYSLOG+EXEC
NOTIFYFLAG ONBATT SYSLOG+EXEC
POLLFREQ 5
POWERDOWNFLAG "/etc/killpower"
"""


def test_what_upsmon_did_becomes_a_load(tmp_path: Path) -> None:
    monitor = import_upsmon(UPSMON, "upsmon.conf", ["rack1-a", "rack1-b"], "server one")
    written = tmp_path / "qxfleet.toml"
    upses = "".join(f'[[ups]]\nname = "rack1-{feed}"\nport = "/dev/ttyS{feed}"\n' for feed in "ab")
    written.write_text(upses + block_text("load", monitor.load, ()) + block_text("[shutdown]", monitor.shutdown, ()))
    plan = load(written).shutdown
    [machine] = plan.loads
    assert (machine.name, machine.fed_by, machine.needs_feeds) == ("server-one", ("rack1-a", "rack1-b"), 1)
    assert machine.stop == Command(("/sbin/shutdown", "-h", "+0"))
    assert plan.host == "server-one" and not plan.armed
    assert [condition.kind for condition in plan.trigger.any] == ["low-battery"]
    told = [str(note) for note in monitor.notes]
    assert [line.partition(": ")[2].split(":")[0].split(",")[0] for line in told] == [
        "NOTIFYCMD", "NOTIFYFLAG", "POWERDOWNFLAG",
        "[other] upsmon stays as it is on this machine; let it connect to the agent's [nut] listen instead of upsd",
        "the shutdown begins at low battery",
    ]  # fmt: skip


def test_supplies_of_unequal_worth_ask_for_all_feeds() -> None:
    text = "MONITOR a@localhost 1 u p master\nMONITOR b@localhost 2 u p master\nMINSUPPLIES 2\n"
    monitor = import_upsmon(text, "upsmon.conf", ["a", "b"], "h")
    assert monitor.load["needs_feeds"] == 2
    assert "correct it if fewer are enough" in monitor.notes[0].text


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "qxfleet", *arguments], capture_output=True, text=True, check=False)


def test_the_command(tmp_path: Path) -> None:
    done = run("import-nut", str(named("two-on-two-buses")), "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, [ups["name"] for ups in document["ups"]]) == (0, ["ups1", "ups2"])
    assert [note["section"] for note in document["notes"]] == ["apc", "ups1", "ups1"]
    nothing = tmp_path / "ups.conf"
    nothing.write_text("[a]\ndriver = usbhid-ups\nport = auto\n")
    assert run("import-nut", str(nothing)).returncode == 1
    missing = run("import-nut", str(tmp_path / "none.conf"))
    assert (missing.returncode, "no such file: name the ups.conf" in missing.stderr) == (2, True)


def test_what_stays_with_nut_becomes_a_member(tmp_path: Path) -> None:
    conf, upsmon = tmp_path / "ups.conf", tmp_path / "upsmon.conf"
    conf.write_text("[hall apc]\ndriver = snmp-ups\nport = 192.0.2.9\n[apc]\ndriver = usbhid-ups\nport = auto\n")
    monitors = ("MONITOR big@nas.example:3499 1 u p secondary", "MONITOR apc@localhost 1 u p primary", "SHUTDOWNCMD /sbin/halt")
    upsmon.write_text("\n".join(monitors) + "\n")
    done = run("import-nut", str(conf), "--upsmon", str(upsmon), "--members", "--json")
    document = json.loads(done.stdout)
    ports = {ups["name"]: (ups["port"], ups["left_out"] is None) for ups in document["ups"]}
    assert ports["apc"] == ("nut://localhost/apc", True)
    assert ports["big-nas.example"] == ("nut://nas.example:3499/big", True)
    assert not ports["hall-apc"][1]  # upsd takes no such name either
    (tmp_path / "qxfleet.toml").write_text(document["toml"])
    config = load(tmp_path / "qxfleet.toml")
    assert {ups.name: ups.port for ups in config.ups} == {
        "apc": "nut://localhost:3493/apc", "big-nas.example": "nut://nas.example:3499/big",
    }  # fmt: skip
    assert config.shutdown.loads[0].fed_by == ("apc",)
