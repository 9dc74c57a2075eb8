"""Schemas: made, upgraded, refused, and never by two at once."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.store import migrate
from qxfleet.store.engine import open_engine
from qxfleet.store.migrate import Standing, state, upgrade
from qxfleet.store.store import Store
from qxfleet.store.tables import SCHEMA, SCHEMA_TABLE, metadata
from qxfleet.store.tables.fleet import FLEET_SCHEMA
from tests.store.conftest import an_event


@contextmanager
def writing(url: str) -> Iterator[Connection]:
    engine = open_engine(url, writing=True, migrating=True)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def test_the_newest_revision_is_the_schema_we_work_with() -> None:
    config = Config()
    config.set_main_option("script_location", migrate.SCRIPTS)
    scripts = ScriptDirectory.from_config(config)
    assert set(scripts.get_heads()) == {SCHEMA, FLEET_SCHEMA}
    for script in scripts.walk_revisions():
        assert Path(script.path).name.startswith(f"{script.revision}_")


def test_an_empty_database_is_filled(empty_url: str) -> None:
    assert state(empty_url).standing is Standing.EMPTY
    assert upgrade(empty_url).standing is Standing.EMPTY
    ours = SCHEMA if empty_url.startswith("sqlite") else FLEET_SCHEMA
    assert state(empty_url) == migrate.SchemaState(Standing.CURRENT, ours, ours)
    assert upgrade(empty_url).standing is Standing.CURRENT


def test_looking_makes_no_file(tmp_path: Path) -> None:
    assert state(f"sqlite:///{tmp_path}/fleet.db").standing is Standing.EMPTY
    assert list(tmp_path.iterdir()) == []


def test_the_revisions_make_the_tables_of_the_code(sqlite_path: Path) -> None:
    with writing(f"sqlite:///{sqlite_path}") as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": False, "version_table": SCHEMA_TABLE}
        )
        assert compare_metadata(context, metadata) == []


def test_readings_need_no_second_tree_on_sqlite(sqlite_path: Path) -> None:
    with closing(sqlite3.connect(sqlite_path)) as file:
        for table in ("reading", "reading_minute", "reading_quarter", "reading_day", "battery_test_point"):
            [(sql,)] = file.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table])
            assert "WITHOUT ROWID" in sql
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert file.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_a_newer_schema_is_refused(sqlite_path: Path) -> None:
    url = f"sqlite:///{sqlite_path}"
    with writing(url) as connection:
        connection.execute(text(f"UPDATE {SCHEMA_TABLE} SET version_num = '0907'"))
    assert state(url).standing is Standing.NEWER
    message = f"has schema 0907, this qxfleet knows up to {SCHEMA}: upgrade qxfleet or restore"
    with pytest.raises(StoreError, match=message):
        upgrade(url)
    with pytest.raises(StoreError, match=message):
        Store(url, clock=Clock()).open()


def test_a_store_of_the_other_kind_is_foreign(sqlite_path: Path) -> None:
    url = f"sqlite:///{sqlite_path}"
    with writing(url) as connection:
        connection.execute(text(f"UPDATE {SCHEMA_TABLE} SET version_num = '{FLEET_SCHEMA}'"))
    assert state(url).standing is Standing.FOREIGN


def test_another_programs_tables_are_left_alone(empty_url: str) -> None:
    with writing(empty_url) as connection:
        connection.execute(text("CREATE TABLE device (serial INTEGER)"))
    assert state(empty_url).standing is Standing.FOREIGN
    with pytest.raises(StoreError, match="holds tables with qxfleet's names that qxfleet did not make"):
        upgrade(empty_url)


def test_another_programs_revisions_are_left_alone(empty_url: str) -> None:
    with writing(empty_url) as connection:
        connection.execute(text(f"CREATE TABLE {SCHEMA_TABLE} (version_num VARCHAR(32))"))
        connection.execute(text(f"INSERT INTO {SCHEMA_TABLE} VALUES ('a1b2c3d4')"))
    with pytest.raises(StoreError, match="holds schema 'a1b2c3d4' that qxfleet did not make"):
        upgrade(empty_url)


# A next revision, made up here, so that there is something to upgrade to

NEXT = f"{int(SCHEMA) + 1:04}"

SECOND = """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "{NEXT}", "{SCHEMA}"
def upgrade():
    with op.batch_alter_table("event") as event:
        event.add_column(sa.Column("seen", sa.Integer()))
    {more}
"""


@pytest.fixture
def second_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a revision after which ours is the old schema."""
    scripts = tmp_path / "scripts"
    shutil.copytree(Path(__file__).parents[2] / "migrations", scripts)
    file = scripts / "versions" / f"{NEXT}_next.py"
    file.write_text(SECOND.format(NEXT=NEXT, SCHEMA=SCHEMA, more=""))
    monkeypatch.setattr(migrate, "SCRIPTS", str(scripts))
    monkeypatch.setattr(migrate, "SCHEMA", NEXT)
    return file


@pytest.fixture
async def old_url(tmp_path: Path) -> str:
    """A database of our schema with an event inside."""
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    store = Store(url, clock=Clock())
    store.open()
    await store.record_now(an_event())
    await store.close()
    return url


def test_an_older_schema_is_upgraded_with_its_rows(old_url: str, second_revision: Path) -> None:
    assert state(old_url).standing is Standing.OLDER
    assert upgrade(old_url) == migrate.SchemaState(Standing.OLDER, SCHEMA, NEXT)
    assert state(old_url) == migrate.SchemaState(Standing.CURRENT, NEXT, NEXT)
    with writing(old_url) as connection:
        assert connection.execute(text("SELECT text, seen FROM event")).all() == [("event 0", None)]
    copy = Path(old_url.removeprefix("sqlite:///") + f".before-{NEXT}")
    with closing(sqlite3.connect(copy)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert file.execute("SELECT version_num FROM qxfleet_schema").fetchone() == (SCHEMA,)
        assert file.execute("SELECT text FROM event").fetchall() == [("event 0",)]


def test_a_failed_upgrade_changes_nothing(old_url: str, second_revision: Path) -> None:
    second_revision.write_text(SECOND.format(NEXT=NEXT, SCHEMA=SCHEMA, more='op.execute("INSERT INTO nowhere VALUES (1)")'))
    with pytest.raises(StoreError, match="nowhere"):
        upgrade(old_url)
    assert state(old_url).revision == SCHEMA
    with writing(old_url) as connection:
        assert "seen" not in connection.execute(text("SELECT * FROM event")).mappings().one()


def test_without_room_for_the_copy_there_is_no_upgrade(sqlite_path: Path, second_revision: Path) -> None:
    (sqlite_path.parent / f"fleet.db.before-{NEXT}").mkdir()
    with pytest.raises(StoreError, match=rf"could not be copied to .*before-{NEXT} before the upgrade: .*nothing changed"):
        upgrade(f"sqlite:///{sqlite_path}")
    assert state(f"sqlite:///{sqlite_path}").revision == SCHEMA


UPGRADE = "import sys; from qxfleet.store.migrate import upgrade; sys.stdin.readline(); print(upgrade(sys.argv[1]).standing.name)"


def test_two_upgrades_at_once(empty_url: str) -> None:
    both = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, empty_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert answers == ["CURRENT", "CURRENT", "EMPTY"]
    assert state(empty_url).standing is Standing.CURRENT


def test_alembic_is_imported_only_to_migrate_and_psycopg_only_for_postgres(sqlite_path: Path) -> None:
    look = (
        "import sys; from qxfleet.store.store import Store; from qxfleet.model.clock import Clock; "
        "Store(sys.argv[1], clock=Clock()).open(); "
        "print([name for name in ('alembic', 'psycopg', 'sqlalchemy.orm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", look, f"sqlite:///{sqlite_path}"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
