"""Tokens as the database keeps them: their digests, whose they are, and until when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from qxfleet.errors import StoreError
from qxfleet.store.tables import token


@dataclass(frozen=True, slots=True)
class StoredToken:
    """One token. ``allow`` None: every right of its user; ``expires_us`` None: never; ``used_us`` None: not yet."""

    name: str
    user: str
    allow: tuple[str, ...] | None
    created_us: int
    expires_us: int | None
    used_us: int | None

    def valid(self, wall_us: int) -> bool:
        """Whether it may still be used."""
        return self.expires_us is None or wall_us < self.expires_us


def insert_token(made: StoredToken, digest: str) -> Callable[[Connection], None]:
    """The write of a new token, for :meth:`Store.commit`; StoreError for a name that is taken."""

    def write(connection: Connection) -> None:
        if connection.scalar(select(token.c.id).where(token.c.name == made.name)) is not None:
            raise StoreError(f"a token is named {made.name!r} already: revoke that, or choose another name")
        allow = None if made.allow is None else list(made.allow)
        connection.execute(
            insert(token).values(
                name=made.name, user=made.user, digest=digest, allow=allow, created=made.created_us, expires=made.expires_us
            )
        )

    return write


def delete_token(name: str, user: str | None = None) -> Callable[[Connection], bool]:
    """The end of a token (only if it is ``user``'s, where one is given), for :meth:`Store.commit`; whether there was one."""

    def write(connection: Connection) -> bool:
        ended = delete(token).where(token.c.name == name)
        if user is not None:
            ended = ended.where(token.c.user == user)
        return connection.execute(ended).rowcount > 0

    return write


def token_used(name: str, wall_us: int) -> Callable[[Connection], None]:
    """Note that a token was used, for :meth:`Store.commit`."""

    def write(connection: Connection) -> None:
        connection.execute(update(token).where(token.c.name == name).values(used=wall_us))

    return write


def token_of(connection: Connection, digest: str) -> StoredToken | None:
    """The token with this digest."""
    row = connection.execute(select(token).where(token.c.digest == digest)).mappings().first()
    return None if row is None else _stored(row)


def tokens(connection: Connection, user: str | None = None) -> list[StoredToken]:
    """Every token, or one user's, by name."""
    query = select(token).order_by(token.c.name)
    if user is not None:
        query = query.where(token.c.user == user)
    return [_stored(row) for row in connection.execute(query).mappings()]


def _stored(row: Any) -> StoredToken:
    allow = None if row["allow"] is None else tuple(row["allow"])
    return StoredToken(row["name"], row["user"], allow, row["created"], row["expires"], row["used"])
