"""The fleet store's tables: made, adopted, and a superset of the state's."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from qxfleet.store.engine import open_engine
from qxfleet.store.tables import SCHEMA_TABLE, metadata
from qxfleet.store.tables.fleet import KEYED, LOCAL, SERIAL, TIERS, fleet
from tests.conftest import Postgres

PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'reading'::regclass"


def test_the_revisions_make_the_tables_of_the_code(postgres: Postgres, postgres_template: str) -> None:
    engine = open_engine(postgres.create(postgres_template), writing=True)
    with engine.begin() as connection:
        partitions = set(connection.scalars(text(PARTITIONS)))
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "version_table": SCHEMA_TABLE,
                "include_object": lambda _, name, *__: name not in partitions,
            },
        )
        assert compare_metadata(context, fleet) == []
    engine.dispose()


def test_every_table_of_the_state_is_shipped_or_kept_on_purpose() -> None:
    shipped = {"device", "reading", *SERIAL, *KEYED, *TIERS}
    assert shipped | LOCAL == set(metadata.tables)
    assert not shipped & LOCAL


def test_every_column_of_the_state_is_there_under_its_name() -> None:
    for name in {"device", "reading", *SERIAL, *KEYED, *TIERS}:
        columns = {column.name: repr(column.type) for column in metadata.tables[name].columns}
        there = {column.name: repr(column.type) for column in fleet.tables[name].columns}
        assert columns.items() <= there.items(), name
