"""Users of the network faces: hashes, files, guessing from many sides at once, and the command that makes a hash."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path

import pytest

from qxfleet.agent.agent import Agent
from qxfleet.config.load import load
from qxfleet.errors import ConfigError
from qxfleet.interfaces import accounts
from qxfleet.interfaces.accounts import Accounts
from qxfleet.interfaces.cli.main import run_command
from qxfleet.model import password as passwords
from qxfleet.model.password import Cost, hash_password, matches, proves
from qxfleet.store.audit import trail
from tests.interfaces.nut_stage import stage
from tests.interfaces.test_upsd import plain


def test_a_hash_is_salted_and_known_again() -> None:
    first, second = hash_password("pässword"), hash_password("pässword")
    assert first != second
    assert matches("pässword", first)
    assert matches("pässword", second)
    assert not matches("passwort", first)
    assert not matches(first, first)
    assert matches("plain", "plain")
    assert not matches("plain ", "plain")


def test_a_hash_made_elsewhere_is_known() -> None:
    """RFC 7914 section 12: scrypt("pleaseletmein", "SodiumChloride", 16384, 8, 1, 64), in the form that passlib writes."""
    rfc = bytes.fromhex(
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
    )
    kept = f"$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU${base64.b64encode(rfc).decode().rstrip('=')}"
    assert hashlib.scrypt(b"pleaseletmein", salt=b"SodiumChloride", n=16384, r=8, p=1, dklen=64, maxmem=1 << 26) == rfc
    assert matches("pleaseletmein", kept)
    assert not matches("pleaseletmeout", kept)


def test_the_command_makes_what_the_configuration_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("s3cret\n"))
    assert run_command(["user", "hash"]) == 0
    made = capsys.readouterr().out
    (tmp_path / "c.toml").write_text(f'[[user]]\nname = "u"\n{made}')
    (user,) = load(tmp_path / "c.toml").faces.users
    assert matches("s3cret", user.kept)
    assert user.kept not in repr(user)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert run_command(["user", "hash"]) == 2
    assert "no password" in capsys.readouterr().err


def test_a_file_holds_the_password_or_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").write_text("open sesame\n")
    (tmp_path / "hashed").write_text(hash_password("open sesame") + "\n")
    (tmp_path / "plain").chmod(0o604)
    (tmp_path / "hashed").chmod(0o640)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "c.toml").write_text(
        '[[user]]\nname = "a"\npassword_file = "plain"\n[[user]]\nname = "b"\npassword_file = "$CREDENTIALS_DIRECTORY/hashed"\n'
    )
    config = load(tmp_path / "c.toml")
    assert all(matches("open sesame", user.kept) for user in config.faces.users)
    (warning,) = config.warnings
    assert "everybody on this machine can read" in warning
    for content, complaint in (("", "no lines"), ("a\nb\n", "2 lines"), ("$scrypt$ln=14\n", "expected a hash")):
        (tmp_path / "hashed").write_text(content)
        with pytest.raises(ConfigError, match=complaint):
            load(tmp_path / "c.toml")


def test_what_listens_to_the_network_without_guard_is_told(tmp_path: Path) -> None:
    def warnings(text: str) -> list[str]:
        (tmp_path / "c.toml").write_text(text)
        return [warning.partition("is reached from the network")[2] for warning in load(tmp_path / "c.toml").warnings]

    user = f'[[user]]\nname = "u"\npassword_hash = "{hash_password("x")}"\n'
    assert warnings('[nut]\nlisten = ["127.0.0.1:3493", "[::1]:3493", "localhost:3494"]') == []
    assert warnings("[nut]") == []
    (nobody,) = warnings('[nut]\nlisten = ["0.0.0.0:3493"]')
    assert "no [[user]] is there" in nobody
    (clear,) = warnings('[nut]\nlisten = ["192.0.2.1:3493"]\n' + user)
    assert "clear text" in clear
    (tmp_path / "both.pem").write_text("")
    assert warnings('[nut]\nlisten = ["192.0.2.1:3493"]\ncert = "both.pem"\n' + user) == []


async def test_many_guesses_at_once_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage([plain()]) as play:
        part = play.agent.part(Accounts)
        assert part is not None
        looked_at = 0

        def counting(password: str, kept: str | None, costs: Collection[Cost]) -> bool:
            nonlocal looked_at
            looked_at += 1
            return proves(password, kept, costs)

        monkeypatch.setattr(accounts, "proves", counting)
        guesses = (part.authenticate("op", f"guess{n}", face="nut", address="192.0.2.9") for n in range(50))
        assert await asyncio.gather(*guesses) == [None] * 50
        assert looked_at == accounts.FREE_FAILURES
        assert await part.authenticate("op", "secret", face="nut", address="192.0.2.9") is None
        assert await part.authenticate("op", "secret", face="nut", address="192.0.2.10") is not None
        assert await part.authenticate("nobody-knows", "secret", face="nut", address="192.0.2.11") is None
        assert looked_at == accounts.FREE_FAILURES + 2, "an unknown name costs as much"
        assert await part.authenticate("pri", "secret", face="nut", address="192.0.2.9") is not None, "another's guesses"
        monkeypatch.setattr(part._agent.clock, "monotonic", _later(play.agent, accounts.FORGIVEN_S + 1))
        assert await part.authenticate("op", "secret", face="nut", address="192.0.2.9") is not None


async def test_guesses_at_many_names_are_few_too() -> None:
    async with stage([plain()]) as play:
        part = play.agent.part(Accounts)
        assert part is not None
        for number in range(accounts.FREE_OF_ADDRESS):
            assert await part.authenticate(f"name{number}", "guess", face="nut", address="192.0.2.9") is None
        assert await part.authenticate("op", "secret", face="nut", address="192.0.2.9") is None
        assert await part.authenticate("op", "secret", face="nut", address="192.0.2.10") is not None
        *_, last = await play.agent.store.read(trail)
        assert last.text.startswith("too many wrong passwords from 192.0.2.9: not looked at, as are all from there")


async def test_addresses_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MOST_GUESSERS", 10)
    async with stage([plain()]) as play:
        part = play.agent.part(Accounts)
        assert part is not None
        for n in range(30):
            part._count("op", f"192.0.2.{n}")
        assert list(part._failures) == [(f"192.0.2.{n}", name) for n in range(25, 30) for name in ("op", None)]


def _later(agent: Agent, seconds: float):  # type: ignore[no-untyped-def]
    now = agent.clock.monotonic
    return lambda: now() + seconds


def test_every_name_costs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in hashes, not in time: a plain password, a dear hash, a cheap one, nobody's."""
    dear = hash_password("dear")
    cheap_salt, cheap_key = base64.b64encode(b"0123456789abcdef").decode().rstrip("="), hashlib.scrypt(
        b"cheap", salt=b"0123456789abcdef", n=1 << 10, r=8, p=1, dklen=32
    )
    cheap = f"$scrypt$ln=10,r=8,p=1${cheap_salt}${base64.b64encode(cheap_key).decode().rstrip('=')}"
    costs = {passwords.cost(kept) for kept in (dear, cheap, "plain")}
    assert costs == {(14, 8, 1), (10, 8, 1)}
    hashed: list[tuple[int, int, int]] = []
    scrypt = passwords._scrypt

    def counting(password: str, salt: bytes, log_n: int, r: int, p: int, size: int) -> bytes:
        hashed.append((log_n, r, p))
        return scrypt(password, salt, log_n, r, p, size)

    monkeypatch.setattr(passwords, "_scrypt", counting)
    for kept, right in ((dear, "dear"), (cheap, "cheap"), ("plain", "plain"), (None, "plain")):
        for password in (right, "wrong"):
            hashed.clear()
            assert proves(password, kept, costs) is (kept is not None and password == right)
            assert sorted(hashed) == [(10, 8, 1), (14, 8, 1)], (kept, password)


async def test_guesses_of_others_do_not_keep_the_right_user_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage([plain()]) as play:
        part = play.agent.part(Accounts)
        assert part is not None
        ask = partial(part.authenticate, face="nut", address="192.0.2.9")
        assert await ask("sec", "secret") is not None
        for each in range(30):
            assert await ask("sec", f"guess{each}") is None
            assert await ask("op", f"guess{each}") is None
        assert await ask("op", "secret") is None, "was never right here: waits"
        monkeypatch.setattr(part._agent.clock, "monotonic", _later(play.agent, accounts.PROVEN_EVERY_S + 0.1))
        assert await ask("op", "secret") is None
        assert await ask("sec", "secret") is not None, "was right here before"
        assert await ask("sec", "guess again") is None
        assert await ask("sec", "guess again") is None
        later = accounts.FORGIVEN_S + 1
        monkeypatch.setattr(part._agent.clock, "monotonic", _later(play.agent, later))
        assert await ask("op", "secret") is not None, "six seconds after the last guess"
