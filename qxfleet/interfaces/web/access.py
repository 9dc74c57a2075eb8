"""Who is asking, and what they may: by password, token or session cookie; every refusal is written down.

Where no ``[[user]]`` is configured nobody can log in: everybody may read, as over the NUT protocol, and nobody anything else.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from qxfleet.agent.agent import Agent
from qxfleet.agent.audit import FORBIDDEN, Act, actor, record
from qxfleet.api.tokens import Tokens
from qxfleet.config.access import Right, User
from qxfleet.interfaces.accounts import Accounts
from qxfleet.interfaces.web.problems import Problem

COOKIE = "qxfleet_session"
SESSION_S = 12 * 3600.0
"""A login ends after a shift."""

MOST_SESSIONS = 1000
REALM = "qxfleet"
TOLD_EVERY_S = 60.0
"""Wrong tokens from one address are written down once in this time."""

MOST_TOLD = 1000

_BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="A token made by `qxfleet token create`.")
_BASIC = HTTPBasic(auto_error=False, scheme_name="password", realm=REALM, description="Name and password of a [[user]].")
_COOKIE = APIKeyCookie(name=COOKIE, auto_error=False, scheme_name="session", description="What the page's login sets.")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who asks. ``user`` None: nobody in particular, who may read. ``allow`` limits a token's rights."""

    user: User | None
    address: str
    token: str | None = None
    allow: frozenset[str] | None = None

    @property
    def name(self) -> str:
        """Who, as the audit trail has it."""
        name = self.user.name if self.user else "anonymous"
        return f"{name}/{self.token}" if self.token else name

    @property
    def actor(self) -> str:
        """Who and from where, in one text."""
        return actor("http", self.name, self.address)

    @property
    def listener(self) -> str:
        """Whose streams are counted together: a user's, or those of an address where nobody logs in."""
        return self.user.name if self.user else f"anonymous@{self.address}"

    @property
    def rights(self) -> tuple[str, ...]:
        """What they may, in words of the configuration."""
        if self.user is None:
            return ("read",)
        return tuple(sorted(self.user.rights if self.allow is None else self.user.rights & self.allow))

    def may(self, right: Right) -> bool:
        """Whether they have a right."""
        if self.user is None:
            return right == "read"
        return self.user.may(right) and (self.allow is None or right in self.allow)

    def may_command(self, name: str) -> bool:
        """Whether they may give this instant command."""
        if self.user is None or not self.user.may_command(name):
            return False
        return self.may("command") or (self.may("test") and name.startswith("test.battery."))


@dataclass(frozen=True, slots=True)
class Session:
    """One login of the page: it holds as long as the configuration has this very user."""

    user: User
    until_s: float


class Access:
    """Finds out who asks. One for an application."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._told_s: OrderedDict[str, float] = OrderedDict()

    @property
    def open(self) -> bool:
        """Whether there is nobody to log in as, so that everybody may read."""
        return not self.agent.config.faces.users

    async def login(self, name: str, password: str, address: str) -> str | None:
        """The secret of a new session; None if name and password do not fit."""
        user = await self._accounts().authenticate(name, password, face="http", address=address)
        if user is None:
            return None
        secret = secrets.token_urlsafe(32)
        self._sessions[secret] = Session(user, self.agent.clock.monotonic() + SESSION_S)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return secret

    def logout(self, secret: str) -> None:
        """End a session."""
        self._sessions.pop(secret, None)

    def by_cookie(self, request: Request) -> Visitor | None:
        """Whose session a request belongs to."""
        secret = request.cookies.get(COOKIE, "")
        session = self._sessions.get(secret)
        if session is None:
            return None
        if session.until_s < self.agent.clock.monotonic() or self._accounts().user(session.user.name) != session.user:
            self.logout(secret)
            return None
        return Visitor(session.user, address_of(request))

    async def by_password(self, name: str, password: str, address: str) -> Visitor | None:
        """Who has that password."""
        user = await self._accounts().authenticate(name, password, face="http", address=address)
        return None if user is None else Visitor(user, address)

    async def by_token(self, secret: str, address: str) -> Visitor | None:
        """Whose token that is; the token of a user who is no longer configured is nobody's."""
        tokens = self.agent.part(Tokens)
        found = await tokens.find(secret) if tokens is not None else None
        user = self._accounts().user(found.user) if found is not None else None
        if found is None or user is None:
            await self._tell_wrong_token(found.name if found else "token", address)
            return None
        return Visitor(user, address, found.name, None if found.allow is None else frozenset(found.allow))

    def still(self, request: Request, visitor: Visitor) -> Callable[[], Awaitable[bool]]:
        """Tells, again and again, whether a visitor who was let in would be let in now."""
        _, secret = get_authorization_scheme_param(request.headers.get("authorization"))

        async def may() -> bool:
            if visitor.user is None:
                return self.open
            if self._accounts().user(visitor.user.name) != visitor.user:
                return False
            if visitor.token is not None:
                tokens = self.agent.part(Tokens)
                return tokens is not None and await tokens.find(secret) is not None
            return "authorization" in request.headers or self.by_cookie(request) is not None

        return may

    async def refuse(self, visitor: Visitor, act: Act, target: str, name: str, value: str | None, needed: str) -> Problem:
        """Write down that somebody may not do something; the problem to raise."""
        text = f"needs the right {needed!r}"
        await record(self.agent, visitor.actor, act, target, name, FORBIDDEN, value=value, text=text)
        return Problem(403, "forbidden", f"{visitor.name} may not do that: it {text}", {"needs": needed})

    def _accounts(self) -> Accounts:
        accounts = self.agent.part(Accounts)
        assert accounts is not None, "an agent with a web face has accounts"
        return accounts

    async def _tell_wrong_token(self, name: str, address: str) -> None:
        now_s = self.agent.clock.monotonic()
        if now_s - self._told_s.get(address, -TOLD_EVERY_S) < TOLD_EVERY_S:
            return
        self._told_s[address] = now_s
        self._told_s.move_to_end(address)
        if len(self._told_s) > MOST_TOLD:
            self._told_s.popitem(last=False)
        text = "a token that is unknown, revoked or expired"
        await record(self.agent, actor("http", name, address), Act.LOGIN, name, "login", FORBIDDEN, text=text)


def access_of(request: Request) -> Access:
    """The application's :class:`Access`."""
    found = request.app.state.access
    assert isinstance(found, Access)
    return found


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "?"


def same_origin(request: Request) -> bool:
    """Whether a request comes from a page of ours, as far as the browser says; programs say nothing."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


async def visitor(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    basic: Annotated[HTTPBasicCredentials | None, Depends(_BASIC)],
    _cookie: Annotated[str | None, Depends(_COOKIE)],
) -> Visitor:
    """Who asks. Raises Problem 401."""
    access, address = access_of(request), address_of(request)
    found: Visitor | None
    if request.method not in ("GET", "HEAD") and not same_origin(request):
        raise Problem(403, "cross-origin", f"a page of {request.headers['origin']} may not do that in somebody's name")
    if bearer is not None:
        found = await access.by_token(bearer.credentials, address)
    elif basic is not None:
        found = await access.by_password(basic.username, basic.password, address)
    else:
        found = access.by_cookie(request)
        if found is not None and request.method not in ("GET", "HEAD") and "origin" not in request.headers:
            raise Problem(403, "cross-origin", "a session's requests that change something carry an Origin header")
    if found is None and bearer is None and basic is None and access.open and known_host(request):
        return Visitor(None, address)
    if found is None:
        why = "wrong name, password or token" if bearer or basic else "log in first: with a token, or name and password"
        raise Problem(401, "login", why, headers={"WWW-Authenticate": _challenge(request)})
    return found


def known_host(request: Request) -> bool:
    """Whether the name we were called by can be ours: a foreign page whose name was bent to our address is not let in."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    face = access_of(request).agent.config.faces.http
    if host in ("localhost", os.uname().nodename, *(each.host for each in (face.listen if face else ()))):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _challenge(request: Request) -> str:
    """A browser's page is not asked for a password by the browser itself."""
    challenge = f'Bearer realm="{REALM}"'
    return challenge if "sec-fetch-mode" in request.headers else f'{challenge}, Basic realm="{REALM}", charset="UTF-8"'


Somebody = Annotated[Visitor, Depends(visitor)]
"""Anybody who may come in."""


def needs(right: Right) -> Callable[..., Awaitable[Visitor]]:
    """A dependency: whoever asks, if they have a right. Raises Problem 403, which the audit trail keeps."""

    async def checked(request: Request, visitor: Somebody) -> Visitor:
        if visitor.may(right):
            return visitor
        path = request.url.path
        raise await access_of(request).refuse(visitor, _ACTS[right], path, request.method.lower(), None, right)

    return checked


_ACTS = {
    "read": Act.LOGIN, "command": Act.COMMAND, "set": Act.SETTING, "fsd": Act.SHUTDOWN, "test": Act.TEST,
    "shutdown": Act.SHUTDOWN,
}  # fmt: skip

Reader = Annotated[Visitor, Depends(needs("read"))]
