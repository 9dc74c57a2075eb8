"""``check`` and ``db``, and what is so for every command: versions, help, where the socket is."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from qxfleet.config import load as config
from qxfleet.errors import ConfigError
from qxfleet.interfaces.cli import client
from qxfleet.interfaces.cli.main import VERBS, _asked
from qxfleet.store.tables import SCHEMA
from tests.interfaces.conftest import PLAIN, Site, process, qxfleet
from tests.parts import absent

GOOD = '[agent]\nname = "row-a"\ndatabase = "sqlite:///fleet.db"\n[[ups]]\nname = "rack1-a"\nport = "/dev/ttyS0"\n'


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "qxfleet.toml"
    file.write_text(GOOD)
    return file


def test_check_prints_the_fleet(good: Path) -> None:
    done = qxfleet("--config", good, "check")
    assert done.returncode == 0, done.stderr
    heading, row, *rest = done.stdout.splitlines()
    assert heading.split()[:3] == ["NAME", "PORT", "DIALECT"]
    assert row.split() == ["rack1-a", "/dev/ttyS0", "auto", "-", "2", "s", "30", "s", "180", "s"]
    assert rest[0].startswith("1 UPS")
    document = json.loads(qxfleet("--config", good, "check", "--json").stdout)
    assert (document["agent"], document["problems"], document["warnings"]) == ("row-a", [], [])
    assert [ups["name"] for ups in document["ups"]] == ["rack1-a"]


def test_check_lists_every_error_and_is_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "qxfleet.toml"
    file.write_text('[agent]\nnmae = "x"\n[[ups]]\nname = "a"\nport = "/dev/ttyS0"\ndialetc = "megatec"\n')
    for command in (["check"], ["run"], ["events"], ["db", "check"]):
        done = process("--config", file, *command)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 2
        assert "nmae" in done.stderr
        assert "dialetc" in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["qxfleet.toml"]
    document = json.loads(qxfleet("--config", file, "check", "--json").stdout)
    assert len(document["problems"]) == 2


def test_check_warns_of_a_folder_that_is_not_there(good: Path) -> None:
    """Nothing could be kept, neither in the state nor beside it, and every order would be refused."""
    good.write_text(GOOD.replace("sqlite:///fleet.db", "sqlite:///gone/fleet.db"))
    done = qxfleet("--config", good, "check")
    assert (done.returncode, "1 warning" in done.stdout) == (0, True), done.stdout
    folder = good.parent / "gone"
    assert f"state and side file: folder {folder} does not exist: create it and give it to the user" in done.stderr
    good.write_text(good.read_text().replace("[agent]", '[agent]\nspool = "side"'))
    [warning] = json.loads(qxfleet("--config", good, "check", "--json").stdout)["warnings"]
    assert warning.startswith("state: ")
    folder.mkdir()
    assert json.loads(qxfleet("--config", good, "check", "--json").stdout)["warnings"] == []


def test_check_shows_no_password(tmp_path: Path) -> None:
    file = tmp_path / "qxfleet.toml"
    file.write_text('[agent]\ndatabase = "postgresql+psycopg://me:geheim@db/fleet"\n')
    for args in (["check"], ["check", "--json"]):
        done = qxfleet("--config", file, *args)
        assert done.returncode == 0, done.stderr
        assert "geheim" not in done.stdout + done.stderr


def test_check_defaults_needs_no_configuration() -> None:
    done = qxfleet("--config", "/no/such/file", "check", "--defaults")
    assert done.returncode == 0
    for word in ("control", "/run/qxfleet/agent.sock", "poll_interval", "ondelay"):
        assert word in done.stdout


def test_a_configuration_that_is_not_there() -> None:
    for command in (["check"], ["status"], ["events"]):
        done = qxfleet("--config", "/no/such/file.toml", *command)
        assert done.returncode == 2
        assert done.stderr.startswith("/no/such/file.toml: ")
        assert "--config" in done.stderr


def test_the_socket_is_where_the_configuration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's short way to the socket finds what the whole configuration says."""
    monkeypatch.delenv("QXFLEET_CONFIG", raising=False)
    assert (client.ENVIRONMENT, client.STANDARD_FILE) == (config.ENVIRONMENT, config.STANDARD_FILE)
    for line in ("", 'control = "a.sock"', 'control = "/run/x/a.sock"'):
        file = tmp_path / "qxfleet.toml"
        file.write_text(f"[agent]\n{line}\n")
        assert client.control_socket(file) == config.load(file).agent.control
        monkeypatch.setenv("QXFLEET_CONFIG", str(file))
        assert client.control_socket(None) == config.load(None).agent.control
    file.write_text("[agent\n")
    with pytest.raises(ConfigError, match="not TOML"):
        client.control_socket(file)
    file.write_text("[agent]\ncontrol = 7\n")
    with pytest.raises(ConfigError, match="path in quotes"):
        client.control_socket(file)


def test_no_permission_is_exit_code_4(tmp_path: Path) -> None:
    """Root is refused like everybody else once it gave up its right to open any file."""
    lowered: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            absent("no setpriv here: apt-get install -y util-linux")
        lowered = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    file = tmp_path / "qxfleet.toml"
    file.write_text('[agent]\ncontrol = "a.sock"\n')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a.sock"))
        listener.listen()
        (tmp_path / "a.sock").chmod(0)
        done = subprocess.run(
            [*lowered, sys.executable, "-m", "qxfleet", "--config", str(file), "status"],
            capture_output=True, text=True, env=PLAIN, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (4, "")
    assert f"ask to be added to the group of {tmp_path}/a.sock" in done.stderr


def test_version_says_it_is_compiled() -> None:
    done = qxfleet("--version")
    assert done.returncode == 0
    assert re.match(r"qxfleet \d+\.\d+\.\d+\nparser: compiled, _fastparse\..*\.so\n", done.stdout)


def test_help_names_every_verb() -> None:
    done = process("--help")
    assert done.returncode == 0
    for verb in (
        "run", "check", "discover", "probe", "status", "vars", "commands", "command", "settings", "set", "events", "top",
        "simulate", "demo", "rehearse", "db",
    ):  # fmt: skip
        assert re.search(rf"^│ {verb} +\w", done.stdout, re.MULTILINE), verb


def test_status_starts_without_the_heavy_parts(tmp_path: Path) -> None:
    """What an answer has to wait for: neither the agent nor the database, nor the tables drawn by rich."""
    file = tmp_path / "qxfleet.toml"
    file.write_text('[agent]\ncontrol = "a.sock"\n')
    script = (
        "import sys; from qxfleet.interfaces.cli.main import run_command; "
        f"assert run_command(['--config', {str(file)!r}, 'status']) == 3; "
        "heavy = {'sqlalchemy', 'apscheduler', 'asyncio', 'serial', 'textual', 'pydantic', 'numpy', 'scipy'}; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy)); "
        "print(sorted(m for m in sys.modules if m.startswith('qxfleet.interfaces.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=PLAIN, check=True)
    heavy, verbs = done.stdout.splitlines()
    assert heavy == "[]"
    assert "cli.fleet" in verbs
    assert "cli.shutdown" not in verbs, "another verb was imported"


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["status"], ["status"]),
        (["--config", "status", "vars", "x"], ["vars"]),
        (["--config=x", "test", "start", "all"], ["test"]),
        (["status", "--help"], ["status"]),
        ([], list(VERBS)),
        (["--help"], list(VERBS)),
        (["--version", "status"], list(VERBS)),
        (["statsu"], list(VERBS)),
        (["--config"], list(VERBS)),
    ],
)  # fmt: skip
def test_only_the_verb_that_is_asked_for_is_imported(arguments: list[str], asked: list[str]) -> None:
    assert list(_asked(arguments)) == asked


def test_db(site: Site, own: Site) -> None:
    own.write("")
    empty = own.run("db", "check")
    assert empty.returncode == 1
    assert "qxfleet db upgrade" in empty.stderr
    assert own.json("db", "upgrade") == {"from": None, "to": SCHEMA, "changed": True}
    assert own.json("db", "upgrade")["changed"] is False
    assert own.json("db", "check")["problems"] == []
    assert own.run("db", "check").stdout.endswith("sound\n")
    report = site.json("db", "check")
    assert report["rows"]["device"] == 6
    assert report["rows"]["reading"] > 0
    assert site.json("db", "prune", "--older-than", "90d")["deleted"] == 0
    wrong = site.run("db", "prune", "--older-than", "90")
    assert wrong.returncode == 2
    assert "no unit" in wrong.stderr


def test_db_prune_deletes_what_is_older(own: Site) -> None:
    own.write(own.block("ups-03", "megatec"))
    own.start()
    own.all_online()
    time.sleep(0.5)
    assert own.stop() == 0
    before = own.json("db", "check")["rows"]
    with closing(sqlite3.connect(own.folder / "fleet.db")) as file, file:
        at_us = time.time_ns() // 1000 - 2 * 3600 * 1_000_000
        file.execute("INSERT INTO reading (device_id, at, status) SELECT id, ?, 1 FROM device", [at_us])
    assert own.json("db", "prune", "--older-than", "1h")["deleted"] == 1
    after = own.json("db", "check")["rows"]
    assert (after["reading"], after["event"]) == (before["reading"], before["event"])


def test_check_loads_certificates(good: Path) -> None:
    for name in ("a", "b"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9",
                   "-subj", "/CN=localhost", "-keyout", f"{name}.key", "-out", f"{name}.pem"]  # fmt: skip
        subprocess.run(command, cwd=good.parent, check=True, capture_output=True)
        (good.parent / f"{name}.key").chmod(0o600)
    (good.parent / "c.pem").write_text("garbage\n")
    for cert, key, why in (
        ("a.pem", "a.key", None),
        ("a.pem", "b.key", "the key is that of another certificate"),
        ("c.pem", "a.key", "they hold no certificate and key in PEM"),
    ):
        good.write_text(f'{GOOD}[nut]\nlisten = ["127.0.0.1:3493"]\ncert = "{cert}"\nkey = "{key}"\n')
        done = qxfleet("--config", good, "check")
        assert done.returncode == (0 if why is None else 2), done.stderr
        if why is not None:
            assert f"[nut] cert {good.parent / cert}, key {good.parent / key}: {why}: correct cert and key" in done.stderr
