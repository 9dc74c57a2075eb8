"""Alembic's entry: run the revisions on the connection qxfleet hands over, or on ``$QXFLEET_DATABASE`` for developers.

With a connection handed over, its open transaction holds the lock and the whole upgrade; this file neither begins nor
commits one.
"""

from __future__ import annotations

import os

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection

from qxfleet.store.engine import open_engine
from qxfleet.store.tables import SCHEMA_TABLE, metadata


def run(connection: Connection) -> None:
    """Apply what the command asked for on this connection."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=SCHEMA_TABLE,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("QXFLEET_DATABASE")
    if not url:
        raise CommandError("name a database: alembic -x url=sqlite:////tmp/fleet.db …, or set QXFLEET_DATABASE")
    engine = open_engine(url, writing=True, migrating=True)
    try:
        with engine.begin() as connection:
            run(connection)
    finally:
        engine.dispose()
