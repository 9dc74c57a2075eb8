"""``port = "nut://…"`` and ``[[upsd]]``: what is read, what is refused, and what is warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from qxfleet.config.load import Config, load
from qxfleet.errors import ConfigError
from qxfleet.model.nut_port import nut_port
from qxfleet.model.options import UpsdAccess

PIN = "AB:" * 31 + "CD"


def read(folder: Path, text: str) -> Config:
    for name in ("user", "password", "ca.pem"):
        (folder / name).write_text(f"{name}\n")
        (folder / name).chmod(0o600)
    (folder / "qxfleet.toml").write_text(text)
    return load(folder / "qxfleet.toml")


def test_every_ups_of_a_server_is_reached_alike(tmp_path: Path) -> None:
    config = read(tmp_path, """
        [[ups]]
        name = "a"
        port = "nut://nas.example/a"
        [[ups]]
        name = "b"
        port = "nut://nas.example:3493/b"
        [[ups]]
        name = "c"
        port = "nut://127.0.0.1:3494/c"
        [[ups]]
        name = "d"
        port = "/dev/ttyS0"
        [[upsd]]
        server = "nas.example"
        user_file = "user"
        password_file = "password"
        ca_file = "ca.pem"
    """)
    by_name = {ups.name: ups for ups in config.ups}
    wanted = UpsdAccess(
        "nas.example", 3493, str(tmp_path / "user"), str(tmp_path / "password"), True, str(tmp_path / "ca.pem"), ""
    )
    assert by_name["a"].upsd == by_name["b"].upsd == wanted
    assert by_name["c"].upsd == UpsdAccess("127.0.0.1", 3494) and by_name["d"].upsd is None
    assert {by_name[name].dialect for name in "abc"} == {"nut"} and by_name["d"].dialect == "auto"
    assert len(config.warnings) == 1 and "nut://127.0.0.1:3494 is read only" in config.warnings[0]


def test_a_pin_is_read_as_openssl_prints_it(tmp_path: Path) -> None:
    config = read(tmp_path, f'[[ups]]\nname = "a"\nport = "nut://h/a"\n[[upsd]]\nserver = "h:3493"\npin = "{PIN}"\n')
    access = config.ups[0].upsd
    assert access is not None and (access.pin, access.tls) == ("ab" * 31 + "cd", True)


UPS = '[[ups]]\nname = "a"\nport = "nut://h/a"\n'
WRONG = {
    '[[ups]]\nname = "a"\nport = "nut://h"\n': "the name of the UPS is missing",
    '[[ups]]\nname = "a"\nport = "nut://u:p@h/a"\n': "user and password belong into",
    '[[ups]]\nname = "a"\nport = "nut://h:0/a"\n': "a TCP port from 1 to 65535",
    '[[ups]]\nname = "a"\nport = "nut://h/a"\ndialect = "megatec"\n': "every UPS behind a NUT server has the dialect",
    '[[ups]]\nname = "a"\nport = "/dev/ttyS0"\ndialect = "nut"\n': 'belongs to ports "nut://…"',
    '[[ups]]\nname = "a"\nport = "nut://h/a"\ncablepower = "none"\n': "belongs to serial ports",
    '[[ups]]\nname = "a"\nport = "nut://h/a"\nvendorid = "0665"\n': "belongs to USB",
    '[[ups]]\nname = "a"\nport = "nut://h/a"\neco_mode = "enabled"\n': "belongs to the voltronic dialect",
    UPS + '[[ups]]\nname = "b"\nport = "nut://H:3493/A"\n': "is the same device",
    UPS + "[[upsd]]\n": "every [[upsd]] needs one",
    UPS + '[[upsd]]\nserver = "h"\nuser_file = "user"\n': "write password_file too",
    UPS + '[[upsd]]\nserver = "h"\nuser_file = "user"\npassword_file = "none"\n': "no such file",
    UPS + '[[upsd]]\nserver = "h"\npin = "12"\n': "expected 64 hexadecimal digits",
    UPS + f'[[upsd]]\nserver = "h"\npin = "{PIN}"\ntls = false\n': "belongs to TLS",
    UPS + f'[[upsd]]\nserver = "h"\npin = "{PIN}"\nca_file = "ca.pem"\n': "keep one",
    UPS + '[[upsd]]\nserver = "h"\n[[upsd]]\nserver = "h:3493"\n': "is described at",
    UPS + '[[upsd]]\nserver = "h/a"\n': 'expected "host" or "host:port"',
    '[[ups]]\nname = "a"\nport = "/dev/ttyS0"\ndialect = "q1"\ninverter_settings = true\n': "belongs to the voltronic-axpert",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert any(WRONG[text] in problem for problem in raised.value.problems), raised.value.problems


def test_what_to_mind_is_said(tmp_path: Path) -> None:
    text = UPS + '[[upsd]]\nserver = "h"\nuser_file = "user"\npassword_file = "password"\n'
    text += '[[upsd]]\nserver = "other"\ntls = true\n'
    warnings = "\n".join(read(tmp_path, text).warnings)
    assert "nut://h:3493 is read in clear text" in warnings and "the password can be read by them" in warnings
    assert "no UPS has a port on it, as in nut://other:3493/name" in warnings


def test_addresses() -> None:
    assert str(nut_port("nut://[2001:db8::1]:3494/a.b-c")) == "nut://[2001:db8::1]:3494/a.b-c"
    assert str(nut_port("nut://h/a")) == "nut://h:3493/a"
