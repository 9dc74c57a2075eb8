"""A database that can't be used is answered with where, what and what to do."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.retention import KEPT
from qxfleet.store.engine import open_engine
from qxfleet.store.migrate import state, upgrade
from qxfleet.store.store import Store
from qxfleet.store.upkeep import check, prune
from tests.conftest import Postgres


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("fleet.db", "'fleet.db' is not a database URL; expected sqlite:"),
        ("", "'' is not a database URL"),
        ("mysql://root@host/fleet", "'mysql' is not a database qxfleet works with; expected sqlite:"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgresql+psycopg://user:secret@host", "names no database"),
        ("postgresql+asyncpg://user@host/fleet", "asyncpg' is not a database qxfleet works with; expected .*psycopg"),
        ("sqlite+nonsense:////tmp/fleet.db", "'sqlite\\+nonsense' is not a database"),
    ],
)
def test_a_bad_url(url: str, what: str) -> None:
    with pytest.raises(StoreError, match="(?i)" + what) as refused:
        Store(url, clock=Clock())
    assert "secret" not in str(refused.value)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"folder {tmp_path}/no does not exist; create it"):
        upgrade(f"sqlite:///{tmp_path}/no/fleet.db")


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="this is a folder; name a file in it"):
        upgrade(f"sqlite:///{tmp_path}")


def test_something_else_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "fleet.db").write_text("[agent]\n" * 1000)
    with pytest.raises(StoreError, match=r"file is not a database \(the file is something else; move it away"):
        upgrade(f"sqlite:///{tmp_path}/fleet.db")
    assert (tmp_path / "fleet.db").read_text() == "[agent]\n" * 1000


def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "fleet.db").touch()
    with pytest.raises(StoreError, match=f"readonly.*must be able to write {tmp_path}/fleet.db"):
        upgrade(f"sqlite:///file:{tmp_path}/fleet.db?mode=ro&uri=true")


@pytest.mark.parametrize("look", [check, lambda url: prune(url, KEPT, 0)])
def test_upkeep_of_a_file_that_is_not_there_makes_none(tmp_path: Path, look: object) -> None:
    with pytest.raises(StoreError, match="there is no such file; qxfleet run and qxfleet db upgrade make one"):
        look(f"sqlite:///{tmp_path}/fleet.db")  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is the server running and reachable") as refused:
        upgrade(f"postgresql+psycopg://user:secret@/fleet?host={tmp_path}")
    assert "secret" not in str(refused.value)


def test_a_database_that_is_not_there(postgres: Postgres) -> None:
    with pytest.raises(StoreError, match="create it: createdb"):
        state(postgres.url("nowhere"))


def test_a_role_that_is_not_there(postgres: Postgres) -> None:
    with pytest.raises(StoreError, match="check user, password"):
        state(postgres.url("postgres").replace("//postgres@", "//nobody:secret@"))


def test_the_bare_postgres_scheme_is_taken_too(postgres: Postgres, postgres_template: str) -> None:
    assert state(postgres.url(postgres_template).replace("+psycopg", "")).standing.name == "CURRENT"


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"psycopg is not installed; pip install 'qxfleet\[postgres\]'"):
        open_engine("postgresql+psycopg://host/fleet", writing=True)


def test_a_path_with_odd_characters(tmp_path: Path, sqlite_path: Path) -> None:
    odd = tmp_path / "Zähler 100% #1"
    odd.mkdir()
    shutil.copy(sqlite_path, odd / "fleet.db")
    assert state(f"sqlite:///{odd}/fleet.db").standing.name == "CURRENT"
