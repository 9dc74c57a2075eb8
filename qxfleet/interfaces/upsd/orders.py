"""What clients may do: log in, force a shutdown, set variables, give commands; each by its rights, each written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from qxfleet.agent.audit import ACCEPTED, FORBIDDEN, Act, actor, record
from qxfleet.agent.forced import Client, Flag
from qxfleet.config.access import User
from qxfleet.errors import Forbidden, OrderNotSupported, QxfleetError
from qxfleet.interfaces.accounts import Accounts
from qxfleet.interfaces.upsd.board import TEXT_LENGTH, Board
from qxfleet.interfaces.upsd.protocol import Code, Refused
from qxfleet.interfaces.upsd.tracking import Tracking
from qxfleet.model.events import OrderResult, Outcome, SettingInfo
from qxfleet.model.variables import VARIABLES, Kind

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent

OK = b"OK\n"

ANSWER_S = 4.0
"""An order without tracking is answered by then, known or not: clients hang up after 5 s."""

MOST_PENDING = 16
"""Tracked orders of one client that are under way at the same time; the next waits."""


MOST_DENIED = 20
"""Refusals of one connection that are written down: a client that tries again and again must not fill the database."""

Perform = Callable[[], Coroutine[Any, Any, OrderResult]]
"""Carries an order out, once."""


@dataclass(slots=True, eq=False)
class Peer:
    """One client: who it says it is, who it has proven to be, and what it was granted."""

    address: str
    username: str = ""
    password: str = field(default="", repr=False)
    proven: User | None = None
    login: str = ""
    tracking: bool = False
    denied: int = 0
    pending: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def client(self) -> Client:
        """Who it is to a forced shutdown; a name counts once it is proven."""
        return Client(self.proven.name if self.proven else "", self.address)

    @property
    def actor(self) -> str:
        """Who it is in the audit trail."""
        return actor("nut", self.username, self.address)


class Orders:
    """The commands that need a user. Call on the loop."""

    def __init__(self, agent: Agent, accounts: Accounts, board: Board) -> None:
        self._agent = agent
        self._accounts = accounts
        self._board = board
        self._tracking = Tracking()
        self._running: set[asyncio.Task[Any]] = set()

    async def end(self) -> None:
        """Let what was begun be written down, for half a second; orders themselves end with the fleet."""
        if self._running:
            await asyncio.wait(self._running, timeout=0.5)
        for task in self._running:
            task.cancel()

    # -- who

    async def _user(self, peer: Peer) -> User:
        """The proven user. Raises Refused."""
        if peer.proven is not None and self._accounts.user(peer.proven.name) is peer.proven:
            return peer.proven
        peer.proven = await self._accounts.authenticate(peer.username, peer.password, face="nut", address=peer.address)
        if peer.proven is None:
            raise Refused(Code.ACCESS_DENIED)
        return peer.proven

    async def _deny(self, peer: Peer, act: Act, ups: str, name: str, value: str | None = None) -> Refused:
        """The user lacks the right: written down before it is answered, and how that is."""
        peer.denied += 1
        if peer.denied <= MOST_DENIED:
            text = "the user has no right to it"
            if peer.denied == MOST_DENIED:
                text += "; what else this connection is refused is not written down"
            await record(self._agent, peer.actor, act, ups, name, FORBIDDEN, value=value, text=text)
        return Refused(Code.ACCESS_DENIED)

    def _granted(self, peer: Peer, act: Act, ups: str, name: str, text: str = "") -> None:
        """Write down what was granted; nobody waits for that."""
        self._keep(record(self._agent, peer.actor, act, ups, name, ACCEPTED, text=text))

    def _keep(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    # -- upsmon

    async def login(self, peer: Peer, asked: str) -> bytes:
        """LOGIN: counted among the clients of a UPS, until it hangs up."""
        name = self._board.ups(asked)
        if peer.login:
            raise Refused(Code.ALREADY_LOGGED_IN)
        user = await self._user(peer)
        if user.upsmon is None:
            raise await self._deny(peer, Act.LOGIN, name, "login")
        peer.login = name
        self._granted(peer, Act.LOGIN, name, "login", f"upsmon, {user.upsmon}")
        return OK

    async def primary(self, peer: Peer, asked: str, word: str) -> bytes:
        """PRIMARY or MASTER: only whether the user is one."""
        name = self._board.ups(asked)
        if (await self._user(peer)).upsmon != "primary":
            raise await self._deny(peer, Act.LOGIN, name, word.lower())
        return f"OK {word}-GRANTED\n".encode()

    async def force(self, peer: Peer, asked: str) -> bytes:
        """FSD: every client of the UPS is told to shut down."""
        name = self._board.ups(asked)
        if not (await self._user(peer)).may("fsd"):
            raise await self._deny(peer, Act.SHUTDOWN, name, "fsd")
        if Flag(name) not in self._agent.forced.all():
            await self._agent.force(name, peer.actor)
            self._granted(peer, Act.SHUTDOWN, name, "fsd")
        return b"OK FSD-SET\n"

    # -- orders to a device

    async def command(self, peer: Peer, asked: str, command: str, value: str | None) -> bytes:
        """INSTCMD."""
        ups, name, value = self._board.ups(asked), command.lower(), value or None
        self._board.available(ups)
        order = next((each for each in self._agent.fleet.orders(ups) if each.name == name), None)
        if order is None:
            raise Refused(Code.CMD_NOT_SUPPORTED)
        if not (await self._user(peer)).may_command(name):
            raise await self._deny(peer, Act.COMMAND, ups, name, value)
        if value is not None:
            seconds = _number(value)
            if order.value is None or seconds is None or not order.value[0] <= seconds <= order.value[1]:
                raise Refused(Code.INVALID_ARGUMENT)
        perform = partial(self._agent.fleet.perform, ups, name, value, actor=peer.actor)
        return await self._answer(peer, perform, Code.INSTCMD_FAILED, Code.CMD_NOT_SUPPORTED)

    async def set(self, peer: Peer, asked: str, variable: str, value: str) -> bytes:
        """SET VAR."""
        ups, name = self._board.ups(asked), variable.lower()
        self._board.available(ups)
        if not (await self._user(peer)).may("set"):
            raise await self._deny(peer, Act.SETTING, ups, name, value)
        setting = self._board.setting(ups, name)
        if setting is None:
            known = self._board.has_variable(ups, name, peer.client)
            raise Refused(Code.READONLY if known else Code.VAR_NOT_SUPPORTED)
        _check_value(setting, value)
        perform = partial(self._agent.fleet.set, ups, name, value, actor=peer.actor)
        return await self._answer(peer, perform, Code.SET_FAILED, Code.VAR_NOT_SUPPORTED)

    async def _answer(self, peer: Peer, perform: Perform, failed: Code, unsupported: Code) -> bytes:
        """OK for what was seen to work, or the id by which its end can be asked for."""
        if not peer.tracking:
            doing = self._keep(_ended(perform, failed, unsupported))
            done, _ = await asyncio.wait({doing}, timeout=ANSWER_S)
            refused = doing.result() if done else failed
            if refused is not None:
                raise Refused(refused)
            return OK
        while len(peer.pending) >= MOST_PENDING:
            await asyncio.wait(peer.pending, return_when=asyncio.FIRST_COMPLETED)
        key = self._tracking.begin(self._agent.clock.monotonic())
        task = self._keep(self._follow(key, perform, failed, unsupported))
        peer.pending.add(task)
        task.add_done_callback(peer.pending.discard)
        return f"OK TRACKING {key}\n".encode()

    async def _follow(self, key: str, perform: Perform, failed: Code, unsupported: Code) -> None:
        refused: Code | None = failed
        try:
            refused = await _ended(perform, failed, unsupported)
        finally:
            self._tracking.end(key, refused)

    def status(self, peer: Peer, key: str | None) -> bytes:
        """GET TRACKING, of the client or of an order."""
        if key is None:
            return b"ON\n" if peer.tracking else b"OFF\n"
        if not peer.tracking:
            raise Refused(Code.FEATURE_NOT_CONFIGURED)
        return self._tracking.status(key.upper(), self._agent.clock.monotonic())


async def _ended(perform: Perform, failed: Code, unsupported: Code) -> Code | None:
    """How an order ended, in the protocol's words: None where it was accepted or seen to work."""
    try:
        return _refusal(await perform(), failed, unsupported)
    except Forbidden:
        return Code.ACCESS_DENIED
    except OrderNotSupported:
        return unsupported
    except QxfleetError:
        return failed


def _refusal(result: OrderResult, failed: Code, unsupported: Code) -> Code | None:
    """How an end is told: None for what was accepted or seen to work, and for nothing else."""
    if result.outcome is Outcome.ACCEPTED:
        return None
    return unsupported if result.outcome is Outcome.UNSUPPORTED else failed


def _check_value(setting: SettingInfo, value: str) -> None:
    """Raises Refused for a value that the variable can't take."""
    if len(value) > TEXT_LENGTH:
        raise Refused(Code.TOO_LONG)
    if setting.choices and value not in setting.choices:
        raise Refused(Code.INVALID_VALUE)
    listed = VARIABLES.get(setting.name)
    bounded = setting.low is not None and setting.high is not None
    if bounded or (not setting.choices and listed is not None and listed.kind is Kind.NUMBER):
        number = _number(value)
        low, high = (setting.low, setting.high) if setting.low is not None and setting.high is not None else (number, number)
        if number is None or low is None or high is None or not low <= number <= high:
            raise Refused(Code.INVALID_VALUE)


def _number(text: str) -> float | None:
    """A plain decimal, as the protocol writes numbers."""
    digits = text.removeprefix("-")
    return float(text) if digits.replace(".", "", 1).isdigit() and digits.isascii() else None
