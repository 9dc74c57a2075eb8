"""Tokens that programs log in to the JSON API with: made once, shown once, kept as a digest, ended at any time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Collection
from typing import TYPE_CHECKING

from qxfleet.agent.audit import ACCEPTED, REJECTED, Act, record
from qxfleet.api import requests, responses, shapes
from qxfleet.api.asking import Streams, UnknownTarget, Verbs
from qxfleet.config.access import RIGHTS
from qxfleet.errors import OrderInvalid, OrderNotSupported, QxfleetError, StoreError
from qxfleet.store.tokens import StoredToken, delete_token, insert_token, token_of, tokens

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import Config

log = logging.getLogger(__name__)

PREFIX = "qxf_"
"""Says in a leaked file what was leaked."""

SECRET_BYTES = 32
LONGEST_NAME = 64
USED_EVERY_S = 60.0
"""When a token was used last is noted once in this time."""


def digest(secret: str) -> str:
    """What the database keeps of a token. A plain hash is enough for 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Tokens:
    """All tokens of one agent's users. A part of the agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._noted_s: dict[str, float] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close: notes that are under way are the writer's."""

    def apply(self, config: Config) -> list[str]:
        """A token's rights are looked up in the configuration when it is used."""
        return []

    async def create(
        self, name: str, user: str, allow: Collection[str] | None, expires_us: int | None, *, actor: str
    ) -> tuple[str, StoredToken]:
        """A new token: the secret, which is kept nowhere, and what is kept.

        Raises OrderInvalid for a name that can't be one or rights the user has not got, OrderNotSupported for a user that is not
        configured, StoreError for a name that is taken.
        """
        owner = next((each for each in self._agent.config.faces.users if each.name == user), None)
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise OrderInvalid(f"a token's name is 1 to {LONGEST_NAME} printable characters")
        if owner is None:
            known = ", ".join(each.name for each in self._agent.config.faces.users)
            raise OrderNotSupported(f"no [[user]] is named {user!r}; {f'there are {known}' if known else 'none is configured'}")
        for right in allow or ():
            if right not in RIGHTS:
                raise OrderInvalid(f"{right!r} is no right: there are {', '.join(RIGHTS)}")
            if right not in owner.rights:
                raise OrderInvalid(f"{user} has not got the right {right!r} and can't pass it on")
        if expires_us is not None and expires_us <= self._agent.clock.wall_us():
            raise OrderInvalid("it would have expired already")
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        rights = None if allow is None else tuple(right for right in RIGHTS if right in allow)
        made = StoredToken(name, user, rights, self._agent.clock.wall_us(), expires_us, None)
        try:
            await self._agent.store.commit(insert_token(made, digest(secret)))
        except StoreError as error:
            await record(self._agent, actor, Act.TOKEN, name, "token-create", REJECTED, text=str(error))
            raise
        await record(self._agent, actor, Act.TOKEN, name, "token-create", ACCEPTED, value=user)
        return secret, made

    async def revoke(self, name: str, *, actor: str, user: str | None = None) -> bool:
        """End a token at once (only one of ``user``, where given); False if there is none."""
        ended = await self._agent.store.commit(delete_token(name, user))
        await record(self._agent, actor, Act.TOKEN, name, "token-revoke", ACCEPTED if ended else REJECTED)
        return ended

    async def all(self, user: str | None = None) -> list[StoredToken]:
        """Every token, or those of one user."""
        return await self._agent.store.read(lambda connection: tokens(connection, user))

    async def find(self, secret: str) -> StoredToken | None:
        """The token with that secret, if it may still be used."""
        if not secret.startswith(PREFIX):
            return None
        kept = digest(secret)
        found = await self._agent.store.read(lambda connection: token_of(connection, kept))
        if found is None or not found.valid(self._agent.clock.wall_us()):
            return None
        self._note(found.name)
        return found

    def _note(self, name: str) -> None:
        now_s = self._agent.clock.monotonic()
        if now_s - self._noted_s.get(name, -USED_EVERY_S) < USED_EVERY_S:
            return
        self._noted_s[name] = now_s
        task = asyncio.create_task(self._write_used(name))
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    async def _write_used(self, name: str) -> None:
        try:
            await self._agent.token_used(name)
        except StoreError as error:
            log.warning("when token %s was used last was not stored: %s", name, error)


def verbs(agent: Agent) -> Verbs:
    """``token-create``, ``token-list``, ``token-revoke``."""

    def part() -> Tokens:
        found = agent.part(Tokens)
        if found is None:
            raise QxfleetError("this agent was started without network faces")
        return found

    async def create(request: requests.TokenCreate, actor: str) -> responses.NewToken:
        """``expires_s`` from now on; the answer is the only place where the secret ever stands."""
        expires_us = None if request.expires_s is None else agent.clock.wall_us() + round(request.expires_s * 1e6)
        secret, made = await part().create(request.name, request.user, request.allow, expires_us, actor=actor)
        return {**shapes.token_document(made), "token": secret}

    async def listing(request: requests.TokenList, actor: str) -> responses.Tokens:
        return {"tokens": [shapes.token_document(each) for each in await part().all(request.user)]}

    async def revoke(request: requests.TokenRevoke, actor: str) -> responses.Revoked:
        name = request.name
        if not await part().revoke(name, actor=actor, user=request.user):
            raise UnknownTarget(f"no token is named {name!r}; `qxfleet token list` shows them")
        return {"name": name, "revoked": True}

    return {requests.TokenCreate: create, requests.TokenList: listing, requests.TokenRevoke: revoke}


def streams(agent: Agent) -> Streams:
    """None."""
    return {}
