"""Right files: what comes out of them, where they are looked for, what is worth a warning."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qxfleet.config import stores
from qxfleet.config.load import ENVIRONMENT, Config, load
from qxfleet.config.schema import DEVICE_KEYS, AgentTable, ProfileTable, UpsTable
from qxfleet.config.stores import FleetSettings
from qxfleet.dialects.registry import names
from qxfleet.errors import ConfigError
from qxfleet.model.options import UpsOptions

DATA = Path(__file__).parent.parent / "data" / "config"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        path = tmp_path / "qxfleet.toml"
        path.write_text(text)
        return path

    return write_file


def one(write: Write, keys: str) -> tuple[UpsOptions, tuple[str, ...]]:
    """Options and warnings of a fleet of one UPS with these keys."""
    config = load(write(f'[[ups]]\nname = "a"\nport = "/dev/ttyS0"\n{keys}'))
    return config.ups[0], config.warnings


def problems(path: Path | None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.problems


def test_the_contracts_sample() -> None:
    config = load(DATA / "contract.toml")
    assert config.agent.name == "row-a"
    assert config.agent.state == Path("/var/lib/qxfleet/fleet.db")
    assert config.fleet is None
    assert config.agent.control == Path("/run/qxfleet/agent.sock")
    assert config.agent.record == "changes"
    assert config.sources == (DATA / "contract.toml",)
    assert config.ups == (
        UpsOptions(
            name="rack1-a",
            port="/dev/ttyS0",
            dialect="auto",
            groups=("rack1", "feed-a"),
            description="Rack 1, feed A",
            poll_interval_s=1.0,
            full_interval_s=30.0,
            ondelay_s=180,
            offdelay_s=30,
            runtimecal=(240.0, 100.0, 720.0, 50.0),
            norating=True,
            defaults={"battery.voltage.high": 27.2},
            overrides={"battery.packs": 2.0},
        ),
    )
    assert len(config.warnings) == 1  # one limit, no nominal voltage: engine.md section 8.2
    assert "contract.toml:20: " in config.warnings[0]
    assert "add default.battery.voltage.low" in config.warnings[0]


def test_an_empty_file_is_an_empty_fleet(write: Write) -> None:
    config = load(write(""))
    assert config.ups == ()
    assert config.agent.name == os.uname().nodename
    assert config.agent.state == Path("/var/lib/qxfleet/state.db")
    assert config.fleet is None
    assert config.agent.control == Path("/run/qxfleet/agent.sock")
    assert config.warnings == ()


def test_the_seeds_defaults(write: Write) -> None:
    """Defaults of the seeds' pages: 180 s, 30 s, 30 s, 43200 s, 10 %, normal."""
    options, warnings = one(write, "")
    assert options == UpsOptions(name="a", port="/dev/ttyS0")
    assert (options.ondelay_s, options.offdelay_s, options.full_interval_s) == (180, 30, 30.0)
    assert (options.chargetime_s, options.idleload_percent, options.cablepower) == (43200.0, 10.0, "normal")
    assert warnings == ()


def test_every_option_at_once(write: Write) -> None:
    options, warnings = one(
        write,
        """
        protocol = "MEGATAEC"
        poll_interval = "500s"
        pollfreq = 600
        ondelay = "3m"
        offdelay = "10m"
        stayoff = true
        norating = true
        novendor = true
        ignoresab = true
        ignorelb = true
        cablepower = "none"
        runtimecal = [600, 80, 1800, 40]
        chargetime = 3600
        idleload = 20
        default.battery.voltage.low = 21
        default.battery.voltage.high = 27.4
        default.battery.voltage.nominal = 24
        override.battery.charge.low = 30
        override.device.location = "cellar"
        override.ups.temperature = -5
        """,
    )
    assert options == UpsOptions(
        name="a", port="/dev/ttyS0", dialect="megatec", poll_interval_s=500.0, full_interval_s=600.0, ondelay_s=180,
        offdelay_s=600, stayoff=True, norating=True, novendor=True, ignoresab=True, ignorelb=True, cablepower="none",
        runtimecal=(600.0, 80.0, 1800.0, 40.0), chargetime_s=3600.0, idleload_percent=20.0,
        defaults={"battery.voltage.low": 21.0, "battery.voltage.high": 27.4, "battery.voltage.nominal": 24.0},
        overrides={"battery.charge.low": 30.0, "device.location": "cellar", "ups.temperature": -5.0},
    )  # fmt: skip
    assert warnings == ()


@pytest.mark.parametrize("dialect", ["auto", *names()])
def test_every_dialect_under_both_names(write: Write, dialect: str) -> None:
    assert one(write, f'dialect = "{dialect}"')[0].dialect == dialect
    assert one(write, f'protocol = "{dialect}"')[0].dialect == dialect
    assert one(write, f'dialect = "{dialect}"\nprotocol = "{dialect}"')[0].dialect == dialect


@pytest.mark.parametrize("port", [
    "/dev/ttyS0", "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A1-if00-port0", "socket://192.0.2.7:4001",
    "socket://[2001:db8::7]:4001", "rfc2217://terminal.example:7001",
])  # fmt: skip
def test_ports(write: Write, port: str) -> None:
    config = load(write(f'[[ups]]\nname = "a"\nport = "{port}"'))
    assert config.ups[0].port == port
    assert config.warnings == ()


def test_usb_keys_reach_the_options(write: Write) -> None:
    config = load(write("""
        [[ups]]
        name = "a"
        port = "auto"
        vendorid = "0665"
        productid = "51.*"
        vendor = 'Foo.Corporation.*'
        product = ".*(Smart|Back)-?UPS.*"
        serial = "C1"
        bus = "00[2-3]"
        subdriver = "krauler"
        langid_fix = 0x4095
        """))
    assert config.ups[0].usb == {
        "vendorid": "0665", "productid": "51.*", "vendor": "Foo.Corporation.*", "product": ".*(Smart|Back)-?UPS.*",
        "serial": "C1", "bus": "00[2-3]", "subdriver": "krauler", "langid_fix": "0x4095",
    }  # fmt: skip
    assert config.warnings == ()


@pytest.mark.parametrize("spelled", [
    "override.battery.packs = 2", 'override."battery.packs" = 2', '"override.battery.packs" = 2',
    "override.battery = { packs = 2 }", "[ups.override.battery]\npacks = 2",
])  # fmt: skip
def test_spellings_of_a_variable(write: Write, spelled: str) -> None:
    assert one(write, spelled)[0].overrides == {"battery.packs": 2.0}


def test_a_variable_and_one_below_it(write: Write) -> None:
    """TOML can't nest input.voltage.nominal below the number input.voltage; quotes can."""
    options, _ = one(write, 'default."input.voltage" = 230\ndefault."input.voltage.nominal" = 230')
    assert options.defaults == {"input.voltage": 230.0, "input.voltage.nominal": 230.0}


@pytest.mark.parametrize(("written", "kept"), [(12, 12), (30, 30), (54, 54), (59, 54), (60, 60), (95, 60), (119, 60)])
def test_offdelay_is_cut_as_the_devices_do(write: Write, written: int, kept: int) -> None:
    """megatec-family.md section 10.3."""
    options, warnings = one(write, f"offdelay = {written}")
    assert options.offdelay_s == kept
    assert [f"{written} s is cut down to {kept} s" in warning for warning in warnings] == [True] * (written != kept)


@pytest.mark.parametrize(("written", "kept"), [(12, 12), (13, 12), (59, 54), (600, 600), (5940, 5940), (5939, 5880)])
def test_offdelay_of_voltronic(write: Write, written: int, kept: int) -> None:
    """voltronic.md section 9: 12 to 5940 s, below 60 in steps of 6, from 60 on in steps of 60."""
    assert one(write, f'dialect = "voltronic"\noffdelay = {written}')[0].offdelay_s == kept


@pytest.mark.parametrize(("written", "kept"), [(0, 0), (59, 0), (180, 180), (200, 180), (599940, 599940)])
def test_ondelay_is_cut_as_the_devices_do(write: Write, written: int, kept: int) -> None:
    """megatec-family.md section 10.3."""
    assert one(write, f"ondelay = {written}")[0].ondelay_s == kept


def test_delays_in_one_unit_or_another_are_the_same(write: Write) -> None:
    assert one(write, 'ondelay = "10m"')[0] == one(write, "ondelay = 600")[0] == one(write, 'ondelay = "600s"')[0]


@pytest.mark.parametrize(("keys", "warning"), [
    ("ondelay = 60", "early firmware may switch off and never return"),
    ("ondelay = 120", "early firmware may switch off and never return"),
    ("ondelay = 0", "depends on the firmware"),
    ("ondelay = 3", 'as the blazer drivers count, write ondelay = "3m"'),
    ("chargetime = 3600", "has no effect without runtimecal"),
    ("idleload = 20", "has no effect without runtimecal"),
    ('poll_interval = "60s"\nfull_interval = "30s"', "every poll will be a full one"),
    ("default.battery.packs = 2\noverride.battery.packs = 2", "never used, override.battery.packs is set as well"),
    ("override.battery.charge.low = 30", "decides nothing unless ignorelb = true"),
    ("default.battery.voltage.low = 21", "one limit alone"),
    ("ignorelb = true\noverride.battery.runtime.low = 60", "known only if the UPS tells it"),
])  # fmt: skip
def test_warnings(write: Write, keys: str, warning: str) -> None:
    _, warnings = one(write, keys)
    assert len(warnings) == 1
    assert warning in warnings[0]
    assert "qxfleet.toml:" in warnings[0]


def test_every_option_of_voltronic_at_once(write: Write) -> None:
    """Under the seed's names and in its words (voltronic.md section 10)."""
    keys = {
        "reset_to_default": True, "alarm_control": "disabled", "bypass_alarm": "enabled", "battery_alarm": "disabled",
        "bypass_when_off": "enabled", "bypass_forbidding": "disabled", "converter_mode": "enabled", "eco_mode": "disabled",
        "advanced_eco_mode": "enabled", "battery_open_status_check": "disabled", "site_fault_detection": "enabled",
        "constant_phase_angle": "disabled", "limited_runtime_on_battery": "enabled", "max_bypass_volt": 264,
        "min_bypass_volt": 170, "max_bypass_freq": 53.5, "min_bypass_freq": 47, "work_range_type": "Appliance",
        "output_phase_angle": "120", "battery_number": 2, "testing": True,
    }  # fmt: skip
    written = "\n".join(f"{key} = {toml(value)}" for key, value in keys.items())
    for dialect in ("voltronic", "auto"):
        options, warnings = one(write, f'dialect = "{dialect}"\n{written}')
        assert options.testing
        assert options.device_settings == {
            "reset_to_default": "yes", "alarm_control": "disabled", "bypass_alarm": "enabled", "battery_alarm": "disabled",
            "bypass_when_off": "enabled", "bypass_forbidding": "disabled", "converter_mode": "enabled", "eco_mode": "disabled",
            "advanced_eco_mode": "enabled", "battery_open_status_check": "disabled", "site_fault_detection": "enabled",
            "constant_phase_angle": "disabled", "limited_runtime_on_battery": "enabled", "max_bypass_volt": "264",
            "min_bypass_volt": "170", "max_bypass_freq": "53.5", "min_bypass_freq": "47", "work_range_type": "Appliance",
            "output_phase_angle": "120", "battery_number": "2",
        }  # fmt: skip
        assert warnings == ()


def test_nothing_is_wanted_of_a_device_unless_it_is_written(write: Write) -> None:
    options, _ = one(write, 'dialect = "voltronic"\nreset_to_default = false\ntesting = false')
    assert options.device_settings == {}
    assert options.testing is False


@pytest.mark.parametrize(("written", "value"), [('"000"', "000"), ("0", "000"), ("120", "120"), ('"180"', "180"), ("240", "240")])
def test_phase_angles(write: Write, written: str, value: str) -> None:
    """Three digits as the seed has them; TOML writes no number with leading zeros."""
    assert one(write, f"output_phase_angle = {written}")[0].device_settings == {"output_phase_angle": value}


def test_the_seeds_misspelling(write: Write) -> None:
    """voltronic.md section 16: accept both, warn."""
    options, warnings = one(write, 'costant_phase_angle = "enabled"')
    assert options.device_settings == {"constant_phase_angle": "enabled"}
    assert len(warnings) == 1
    assert ".costant_phase_angle: " in warnings[0]
    assert "write constant_phase_angle" in warnings[0]


@pytest.mark.parametrize(("dialect", "flag", "warned"), [
    ("voltronic", "norating", True), ("voltronic", "novendor", True), ("megatec", "norating", False), ("auto", "novendor", False),
])  # fmt: skip
def test_norating_and_novendor_have_no_effect_on_voltronic(write: Write, dialect: str, flag: str, warned: bool) -> None:
    """voltronic.md section 16."""
    _, warnings = one(write, f'dialect = "{dialect}"\n{flag} = true')
    assert [f".{flag}: has no effect on the voltronic dialect" in warning for warning in warnings] == [True] * warned


def test_voltronic_tells_charge_and_runtime_itself(write: Write) -> None:
    """voltronic.md section 13: ignorelb needs no nominal voltage, and no runtimecal."""
    assert one(write, 'dialect = "voltronic"\nignorelb = true\noverride.battery.runtime.low = 300')[1] == ()


SITE = """
    [[ups]]
    name = "a"
    port = "/dev/ttyS0"
    groups = ["rack1"]
    dialect = "voltronic"
    [[ups]]
    name = "b"
    port = "/dev/ttyS1"
    [[ups]]
    name = "c"
    port = "/dev/ttyS2"
    groups = ["rack1"]
    """


def test_profiles(write: Write) -> None:
    """Targets in the fleet's order, each once; settings under their variables' names, in the order of the dialect's table."""
    config = load(write(SITE + """
        [[profile]]
        name = "servers"
        targets = ["c", "group:rack1"]
        [profile.settings]
        outlet.1.delay.shutdown = "8m"
        input.frequency.high = 53.0
        battery_number = 2
        ups.delay.shutdown = "1m"
        eco_mode = "disabled"
        ups.start.auto = "yes"
        outlet.0.switchable = "yes"
        [[profile]]
        name = "quiet"
        targets = ["all"]
        settings = { alarm_control = "disabled" }
        on_refusal = "go-on"
        """))
    servers, quiet = config.profiles
    assert (servers.name, servers.upses, servers.go_on) == ("servers", ("a", "c"), False)
    assert list(servers.settings.items()) == [
        ("ups.delay.shutdown", "60"), ("ups.start.auto", "yes"), ("eco_mode", "disabled"), ("outlet.0.switchable", "yes"),
        ("battery.number", "2"), ("outlet.1.delay.shutdown", "480"), ("input.frequency.high", "53"),
    ]  # fmt: skip
    assert (quiet.name, quiet.upses, dict(quiet.settings)) == ("quiet", ("a", "b", "c"), {"alarm_control": "disabled"})
    assert quiet.go_on
    assert config.warnings == ()


def test_a_profile_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text(
        '[[profile]]\nname = "p"\ntargets = ["a"]\nsettings.eco_mode = "enabled"\n', encoding="utf-8"
    )
    main = tmp_path / "qxfleet.toml"
    main.write_text('[agent]\ninclude = ["profiles.toml"]\n[[ups]]\nname = "a"\nport = "/dev/ttyS0"\n')
    assert [profile.upses for profile in load(main).profiles] == [("a",)]


@pytest.mark.parametrize(("settings", "warning"), [
    ('costant_phase_angle = "enabled"', "a misspelling"),
    ('ups.delay.shutdown = 59', "59 s is cut down to 54 s"),
])  # fmt: skip
def test_warnings_of_a_profile(write: Write, settings: str, warning: str) -> None:
    config = load(write(f'{SITE}\n[[profile]]\nname = "p"\ntargets = ["all"]\n[profile.settings]\n{settings}'))
    assert len(config.warnings) == 1
    assert warning in config.warnings[0]


def test_profiles_that_undo_each_other(write: Write) -> None:
    config = load(write(SITE.replace('dialect = "voltronic"', 'eco_mode = "enabled"\nbattery_number = 2') + """
        [[profile]]
        name = "summer"
        targets = ["all"]
        settings = { eco_mode = "disabled", battery_number = 2, alarm_control = "enabled" }
        [[profile]]
        name = "winter"
        targets = ["b"]
        settings = { eco_mode = "enabled", alarm_control = "enabled" }
        """))
    first, second = config.warnings
    assert 'profile[0] "summer" .settings.eco_mode: disabled for a, but its [[ups]] block' in first
    assert 'profile[1] "winter" .settings.eco_mode: enabled for b, but profile summer says disabled' in second


def test_the_fleets_intervals_and_a_ups_own(write: Write) -> None:
    config = load(write("""
        [agent]
        poll_interval = "5s"
        full_interval = "1m"
        [[ups]]
        name = "a"
        port = "/dev/ttyS0"
        [[ups]]
        name = "b"
        port = "/dev/ttyS1"
        poll_interval = "0.5s"
        full_interval = "10s"
        """))
    assert [(ups.poll_interval_s, ups.full_interval_s) for ups in config.ups] == [(5.0, 60.0), (0.5, 10.0)]


@pytest.mark.parametrize(("written", "state", "fleet"), [
    ('state = "/srv/state.db"', "/srv/state.db", None),
    ('state = "data/state.db"', "{folder}/data/state.db", None),
    ('database = "sqlite:////srv/fleet.db"', "/srv/fleet.db", None),
    ('database = "sqlite:///data/fleet.db?timeout=3"', "{folder}/data/fleet.db", None),
    ('database = "postgresql+psycopg://u@db/fleet"', "/var/lib/qxfleet/state.db", FleetSettings("postgresql+psycopg://u@db/fleet")),
    ('database = "postgresql://u:p%40@db:5432/fleet?sslmode=require"\nstate = "s.db"', "{folder}/s.db",
     FleetSettings("postgresql+psycopg://u:p%40@db:5432/fleet?sslmode=require")),
    ('state = "s.db"\n[fleet]\ndatabase = "postgresql://db/fleet"\nsite = "hall-2"', "{folder}/s.db",
     FleetSettings("postgresql+psycopg://db/fleet", "hall-2")),
    ('database = "sqlite:///s.db"\n[fleet]\ndatabase = "postgresql://db/fleet"', "{folder}/s.db",
     FleetSettings("postgresql+psycopg://db/fleet")),
])  # fmt: skip
def test_where_the_record_is_kept(write: Write, tmp_path: Path, written: str, state: str, fleet: FleetSettings | None) -> None:
    config = load(write(f"[agent]\n{written}"))
    assert (str(config.agent.state), config.fleet) == (state.format(folder=tmp_path), fleet)
    assert config.agent.spool == Path(state.format(folder=tmp_path) + ".spool")


@pytest.mark.parametrize(("files", "text", "expected"), [
    ([], "", "state.db"),
    (["fleet.db"], "", "fleet.db"),
    (["fleet.db", "state.db"], "", "state.db"),
    (["fleet.db"], 'database = "postgresql://db/fleet"', "state.db"),
    (["fleet.db"], 'state = "/srv/other.db"', "/srv/other.db"),
])  # fmt: skip
def test_the_database_of_a_former_version_is_taken_over(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], text: str, expected: str
) -> None:
    monkeypatch.setattr(stores, "STATE", tmp_path / "state.db")
    monkeypatch.setattr(stores, "FORMER", tmp_path / "fleet.db")
    for name in files:
        (tmp_path / name).touch()
    assert load(write(f"[agent]\n{text}")).agent.state == tmp_path / expected


def test_relative_paths_count_from_the_file_not_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "fleet.toml").write_text(
        '[agent]\nstate = "state.db"\ncontrol = "agent.sock"\nrecord = "all"'
    )
    monkeypatch.chdir(tmp_path)
    agent = load(Path("etc/fleet.toml")).agent
    assert agent.state == tmp_path / "etc" / "state.db"
    assert agent.control == tmp_path / "etc" / "agent.sock"
    assert agent.record == "all"


def test_a_socket_path_too_long_for_the_system(write: Write) -> None:
    (problem,) = problems(write(f'[agent]\ncontrol = "{"x" * 107}"'))
    assert "agent.control" in problem
    assert "107 bytes" in problem


def test_the_interfaces_run_as_a_user_of_this_machine(tmp_path: Path) -> None:
    main = tmp_path / "qxfleet.toml"
    main.write_text('[agent]\ninterfaces_user = "nobody"\n')
    assert load(main).agent.interfaces_user == "nobody"
    main.write_text('[agent]\ninterfaces_user = "no-such-user"\n')
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert "no user no-such-user" in str(caught.value)


def test_include(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    for file, name in (("conf.d/20.toml", "c"), ("conf.d/10.toml", "b"), ("extra.toml", "d")):
        (tmp_path / file).write_text(f'[[ups]]\nname = "{name}"\nport = "/dev/{name}"\n')
    (tmp_path / "conf.d" / "notes.txt").write_text("not read")
    main = tmp_path / "qxfleet.toml"
    main.write_text(
        f'[agent]\ninclude = ["conf.d/*.toml", "extra.toml", "*.toml", "none/*.toml", "{tmp_path}/conf.d/1?.toml"]\n'
        '[[ups]]\nname = "a"\nport = "/dev/a"\n'
    )
    config = load(main)
    assert [ups.name for ups in config.ups] == ["a", "b", "c", "d"]
    assert config.sources == tuple(
        tmp_path / name for name in ("qxfleet.toml", "conf.d/10.toml", "conf.d/20.toml", "extra.toml")
    )


def test_two_paths_to_one_device(tmp_path: Path, write: Write) -> None:
    (tmp_path / "tty").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "tty")
    (problem,) = problems(write(
        f'[[ups]]\nname = "a"\nport = "{tmp_path}/tty"\n[[ups]]\nname = "b"\nport = "{tmp_path}/by-id"\n'
    ))  # fmt: skip
    assert problem.startswith(f'{tmp_path}/qxfleet.toml:6: ups[1] "b" .port: ')
    assert "qxfleet.toml:3" in problem


def test_where_the_file_is_looked_for(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = write('[agent]\nname = "named"')
    by_environment = tmp_path / "environment.toml"
    by_environment.write_text('[agent]\nname = "by-environment"')
    standard = tmp_path / "standard.toml"
    monkeypatch.setattr("qxfleet.config.load.STANDARD_FILE", standard)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    (problem,) = problems(None)
    assert problem.startswith(f"{standard}: no such file")
    assert "--config" in problem
    assert ENVIRONMENT in problem
    standard.write_text('[agent]\nname = "standard"')
    assert load().agent.name == "standard"
    monkeypatch.setenv(ENVIRONMENT, str(by_environment))
    assert load().agent.name == "by-environment"
    assert load(named).agent.name == "named"
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "gone.toml"))
    (problem,) = problems(None)
    assert "gone.toml: no such file" in problem
    assert ENVIRONMENT in problem


def test_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path / "gone.toml")
    assert problem == f"{tmp_path}/gone.toml: no such file: name an existing file with --config"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path)
    assert "can't be read, Is a directory" in problem


def test_a_file_we_may_not_read(write: Write) -> None:
    path = write("")
    path.chmod(0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        (problem,) = problems(path)
    finally:
        os.seteuid(before)
    assert "no permission to read it: run as" in problem


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes('[agent]\nname = "x"\n# Köln\n'.encode("latin-1"))
    (problem,) = problems(path)
    assert problem == f"{path}:3: this line is not UTF-8 text: save the file as UTF-8"


def test_files_from_other_systems(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b'\xef\xbb\xbf[[ups]]\r\nname = "a"\r\nport = "/dev/ttyS0"\r\npools = 1\r\n')
    (problem,) = problems(path)
    assert problem.startswith(f'{path}:4: ups[0] "a" .pools: unknown setting')


def test_a_configuration_does_not_change(write: Write) -> None:
    config = load(write(""))
    with pytest.raises(AttributeError):
        config.ups = ()  # type: ignore[misc]


def test_the_same_file_twice_is_the_same_configuration() -> None:
    assert load(DATA / "contract.toml") == load(DATA / "contract.toml")


WORDS = st.text(string.printable + "äµ€", max_size=8).filter(lambda text: "\x0b" not in text and "\x0c" not in text)
VALUES = st.recursive(
    st.one_of(
        st.booleans(), st.integers(-5, 1_000_000), st.floats(width=32), WORDS,
        st.sampled_from(["2s", "10m", "auto", "q1", "/dev/a", "0665", "krauler", "none", "all", "changes"]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS.filter(bool), inner, max_size=2),
    max_leaves=5,
)  # fmt: skip


def toml(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return str(value)


def tables(keys: list[str]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.one_of(st.sampled_from(keys), WORDS.filter(bool)), VALUES, max_size=6)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tables([key for key in AgentTable.model_fields if key != "include"]),
    st.lists(tables([*UpsTable.model_fields, "default.battery.packs", "override.ups.id"]), max_size=3),
    st.lists(tables([*ProfileTable.model_fields, "settings.eco_mode"]), max_size=1),
    tables([*DEVICE_KEYS, "ups.delay.start", "battery.packs", "input.transfer.low", "outlet.1.delay.shutdown"]),
)
def test_whatever_stands_in_the_file_is_read_or_told(
    write: Write, agent: dict[str, object], blocks: list[dict[str, object]], profiles: list[dict[str, object]],
    settings: dict[str, object],
) -> None:  # fmt: skip
    lines = ["[agent]", *(f"{json.dumps(key)} = {toml(value)}" for key, value in agent.items())]
    for block in blocks:
        lines += ["[[ups]]", *(f"{json.dumps(key)} = {toml(value)}" for key, value in block.items())]
    for profile in profiles:
        written = {"settings": settings, "targets": ["all"], **profile}
        lines += ["[[profile]]", *(f"{json.dumps(key)} = {toml(value)}" for key, value in written.items())]
    path = write("\n".join(lines))
    try:
        config = load(path)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.startswith(f"{path}:")
            assert problem.isprintable()
            assert int(problem.removeprefix(f"{path}:").partition(":")[0]) <= len(lines)
    else:
        assert isinstance(config, Config)
        assert len(config.ups) == len(blocks)
