"""Who is on the other side of a network face: passwords checked in constant time, guessing slowed down, refusals written down."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qxfleet.agent.audit import FORBIDDEN, Act, actor, record
from qxfleet.config.access import User
from qxfleet.model.password import cost, proves

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import Config

FREE_FAILURES = 5
"""Wrong passwords for one name from one address that cost nothing but their answer. By name, because all programs of one machine
come from one address: a forgotten script must not keep its upsmon from logging in."""

FREE_OF_ADDRESS = 25
"""The same for all names together."""

FORGIVEN_S = 6.0
"""One failure is forgiven after so long; who has used up what is free is refused unheard until then. Short, because a guesser and
the right user may share name and address: ten guesses a minute, and a wait of six seconds at most for those of somebody else."""

PROVEN_EVERY_S = 0.1
"""A name that has proven itself with this password from this address before is heard in between, ten times a second at most."""

MOST_PROVEN = 4096
MOST_GUESSERS = 4096
"""Addresses, and names at addresses, whose failures are remembered; beyond it the one longest quiet is forgotten."""

LONGEST_PASSWORD = 1024
"""Characters; a longer one is wrong, and not worth hashing."""


_Guesser = tuple[str, str | None]
"""An address and a name; None: all names together."""


@dataclass(slots=True)
class Failures:
    """Wrong passwords of one guesser that are not forgiven yet; the last of them at ``last_s``."""

    count: float
    last_s: float
    told: bool = False

    def at(self, now_s: float) -> float:
        """What is left of them."""
        return max(0.0, self.count - (now_s - self.last_s) / FORGIVEN_S)


class Accounts:
    """The users of the configuration, for every network face: one memory of failures for all of them. A part of the agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._users: dict[str, User] = {}
        self._failures: OrderedDict[_Guesser, Failures] = OrderedDict()
        self._proven: dict[str, bytes] = {}
        self._places: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._process_key = secrets.token_bytes(32)
        self._hashing: ThreadPoolExecutor | None = None
        self._one_at_a_time = asyncio.Lock()
        self._take(agent.config.faces.users)

    # -- a part of the agent

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """End the thread that hashes."""
        if self._hashing is not None:
            self._hashing.shutdown(wait=False, cancel_futures=True)
            self._hashing = None

    def apply(self, config: Config) -> list[str]:
        """Take the users of a new configuration; sessions that are logged in ask :meth:`user` again."""
        before = self._users
        self._take(config.faces.users)
        changes = [f"user {name}: removed" for name in before if name not in self._users]
        for name, user in self._users.items():
            if before.get(name) != user:
                changes.append(f"user {name}: {'changed' if name in before else 'added'}")
        return changes

    def _take(self, users: Iterable[User]) -> None:
        self._users = {user.name: user for user in users}
        self._proven.clear()
        self._costs = frozenset(cost(user.kept) for user in self._users.values())

    # -- asking

    def user(self, name: str) -> User | None:
        """A user as the configuration has them now, for what they may do after they have proven who they are."""
        return self._users.get(name)

    async def authenticate(self, name: str, password: str, *, face: str, address: str) -> User | None:
        """The user, if the password is theirs; None if not, or if there were too many guesses from this address.

        An unknown name costs as much time as a wrong password. A refusal is in the audit trail when this returns; that
        somebody is refused unheard is told once.
        """
        digest = hmac.digest(self._process_key, f"{name}\0{password}".encode(), "sha256")
        blocked = self._blocked(name, address)
        if (blocked is None or self._heard(name, address)) and self._known(name, digest):
            self._prove(name, address)
            return self._users.get(name)
        if blocked is None:
            async with self._one_at_a_time:  # so that many guesses at once are no more than a few, too
                blocked = self._blocked(name, address)
                if blocked is None:
                    if self._known(name, digest) or await self._proves(name, password, digest):
                        self._prove(name, address)
                        return self._users.get(name)
                    self._count(name, address)
        await self._refuse(name, face, address, blocked)
        return None

    def _known(self, name: str, digest: bytes) -> bool:
        """Whether this password was right before, which spares its hash."""
        return hmac.compare_digest(digest, self._proven.get(name, b""))

    async def _proves(self, name: str, password: str, digest: bytes) -> bool:
        user = self._users.get(name)
        if len(password) > LONGEST_PASSWORD:
            return False
        kept = user.kept if user else None
        right = await asyncio.get_running_loop().run_in_executor(self._thread(), proves, password, kept, self._costs)
        if right and user is not None and self._users.get(name) is user:
            self._proven[name] = digest
            return True
        return False

    def _prove(self, name: str, address: str) -> None:
        """Remember that this address knows the password of that name."""
        self._places[address, name] = float("-inf")
        self._places.move_to_end((address, name))
        if len(self._places) > MOST_PROVEN:
            self._places.popitem(last=False)

    def _heard(self, name: str, address: str) -> bool:
        """Whether a name that others' guesses have shut out at this address was right there before; not too often."""
        now_s, last_s = self._agent.clock.monotonic(), self._places.get((address, name))
        if last_s is None or now_s - last_s < PROVEN_EVERY_S:
            return False
        self._places[address, name] = now_s
        return True

    def _thread(self) -> ThreadPoolExecutor:
        """One thread, so that a flood of logins takes one hash's memory and one processor."""
        if self._hashing is None:
            self._hashing = ThreadPoolExecutor(1, "passwords")
        return self._hashing

    # -- guessing

    def _blocked(self, name: str, address: str) -> _Guesser | None:
        """Who guessed too often, if anybody."""
        now_s = self._agent.clock.monotonic()
        limits: tuple[tuple[_Guesser, int], ...] = (((address, name), FREE_FAILURES), ((address, None), FREE_OF_ADDRESS))
        for guesser, free in limits:
            failures = self._failures.get(guesser)
            if failures is not None and failures.at(now_s) > free - 1:
                return guesser
        return None

    def _count(self, name: str, address: str) -> None:
        now_s = self._agent.clock.monotonic()
        guessers: tuple[_Guesser, ...] = ((address, name), (address, None))
        for guesser in guessers:
            before = self._failures.pop(guesser, None)
            self._failures[guesser] = Failures((before.at(now_s) if before else 0.0) + 1.0, now_s)
        while len(self._failures) > MOST_GUESSERS:
            self._failures.popitem(last=False)

    async def _refuse(self, name: str, face: str, address: str, blocked: _Guesser | None) -> None:
        text = "wrong name or password"
        if blocked is not None:
            failures = self._failures[blocked]
            if failures.told:
                return
            failures.told = True
            whom = "" if blocked[1] is None else f" for {name}"
            text = (
                f"too many wrong passwords{whom} from {address}: not looked at, as are all{whom} from there "
                f"for about {FORGIVEN_S:g} s"
            )
        await record(self._agent, actor(face, name, address), Act.LOGIN, name, "login", FORBIDDEN, text=text)
