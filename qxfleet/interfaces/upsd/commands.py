"""Every command of the protocol, and what it needs before it is looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from qxfleet.interfaces.upsd.board import INFO, Board
from qxfleet.interfaces.upsd.orders import OK, Orders, Peer
from qxfleet.interfaces.upsd.protocol import Code, Refused, framed, words

Answer = bytes | Awaitable[bytes]
"""At once, or after a look at a password or a word with a device."""

NETVER = b"1.3\n"
HELP = b"Commands: HELP VER PROTVER GET LIST SET INSTCMD LOGIN LOGOUT USERNAME PASSWORD STARTTLS\n"
GOODBYE = b"OK Goodbye\n"
STARTTLS = b"OK STARTTLS\n"


@dataclass(frozen=True, slots=True)
class Command:
    """``words`` it takes behind its name: at least, at most (None: what is more is not looked at, as upsd does)."""

    answer: Callable[[Peer, list[str]], Answer]
    words: tuple[int, int | None] = (0, 0)
    user: bool = False


class Commands:
    """Answers requests, one line each. ``logins`` says which peers are logged in to a UPS; ``tls``: STARTTLS is possible."""

    def __init__(self, board: Board, orders: Orders, logins: Callable[[str], list[Peer]]) -> None:
        self.tls = False
        self._board = board
        self._orders = orders
        self._logins = logins
        primary = orders.primary
        self._table = {
            "GET": Command(self._get, (1, None)),
            "LIST": Command(self._list, (1, None)),
            "VER": Command(lambda peer, rest: f"{INFO}\n".encode()),
            "NETVER": Command(lambda peer, rest: NETVER),
            "PROTVER": Command(lambda peer, rest: NETVER),
            "HELP": Command(lambda peer, rest: HELP),
            "STARTTLS": Command(lambda peer, rest: self._starttls()),
            "LOGOUT": Command(lambda peer, rest: GOODBYE),
            "USERNAME": Command(lambda peer, rest: _username(peer, rest[0]), (1, 1)),
            "PASSWORD": Command(lambda peer, rest: _password(peer, rest[0]), (1, 1)),
            "LOGIN": Command(lambda peer, rest: orders.login(peer, rest[0]), (1, 1), user=True),
            "PRIMARY": Command(lambda peer, rest: primary(peer, rest[0], "PRIMARY"), (1, 1), user=True),
            "MASTER": Command(lambda peer, rest: primary(peer, rest[0], "MASTER"), (1, 1), user=True),
            "FSD": Command(lambda peer, rest: orders.force(peer, rest[0]), (1, 1), user=True),
            "SET": Command(self._set, (2, None), user=True),
            "INSTCMD": Command(self._instcmd, (2, None), user=True),
        }
        client_of = self._client_list
        self._gets: dict[str, tuple[int, Callable[[Peer, list[str]], bytes]]] = {
            "VAR": (2, lambda peer, rest: board.variable(rest[0], rest[1], peer.client)),
            "TYPE": (2, lambda peer, rest: board.type(rest[0], rest[1], peer.client)),
            "DESC": (2, lambda peer, rest: board.description(rest[0], rest[1])),
            "CMDDESC": (2, lambda peer, rest: board.command_description(rest[0], rest[1])),
            "UPSDESC": (1, lambda peer, rest: board.ups_description(rest[0])),
            "NUMLOGINS": (1, lambda peer, rest: self._number_of_logins(rest[0])),
            "TRACKING": (0, lambda peer, rest: orders.status(peer, rest[0] if rest else None)),
        }
        self._lists: dict[str, tuple[int, Callable[[Peer, list[str]], bytes]]] = {
            "UPS": (0, lambda peer, rest: board.upses()),
            "VAR": (1, lambda peer, rest: board.variables(rest[0], peer.client)),
            "RW": (1, lambda peer, rest: board.settings(rest[0])),
            "CMD": (1, lambda peer, rest: board.commands(rest[0])),
            "ENUM": (2, lambda peer, rest: board.choices(rest[0], rest[1], peer.client)),
            "RANGE": (2, lambda peer, rest: board.ranges(rest[0], rest[1], peer.client)),
            "CLIENT": (1, lambda peer, rest: client_of(rest[0])),
        }

    def answer(self, peer: Peer, line: bytes) -> Answer:
        """The answer to one request. Raises Refused, now or when awaited."""
        asked = words(line)
        command = self._table.get(asked[0].upper()) if asked else None
        if command is None:
            raise Refused(Code.UNKNOWN_COMMAND)
        if command.user and not peer.username:
            raise Refused(Code.USERNAME_REQUIRED)
        if command.user and not peer.password:
            raise Refused(Code.PASSWORD_REQUIRED)
        least, most = command.words
        if len(asked) - 1 < least or (most is not None and len(asked) - 1 > most):
            raise Refused(Code.INVALID_ARGUMENT)
        return command.answer(peer, asked[1:])

    def _get(self, peer: Peer, rest: list[str]) -> Answer:
        return _one_of(self._gets, peer, rest)

    def _list(self, peer: Peer, rest: list[str]) -> Answer:
        return _one_of(self._lists, peer, rest)

    def _set(self, peer: Peer, rest: list[str]) -> Answer:
        what, more = rest[0].upper(), rest[1:]
        if what == "VAR" and len(more) >= 3:
            return self._orders.set(peer, more[0], more[1], more[2])
        if what == "TRACKING" and more[0].upper() in ("ON", "OFF"):
            peer.tracking = more[0].upper() == "ON"
            return OK
        raise Refused(Code.INVALID_ARGUMENT)

    def _instcmd(self, peer: Peer, rest: list[str]) -> Answer:
        return self._orders.command(peer, rest[0], rest[1], rest[2] if len(rest) > 2 else None)

    def _starttls(self) -> bytes:
        if not self.tls:
            raise Refused(Code.FEATURE_NOT_CONFIGURED)
        return STARTTLS

    def _number_of_logins(self, asked: str) -> bytes:
        name = self._board.ups(asked)
        self._board.available(name)
        return f"NUMLOGINS {asked} {len(self._logins(name))}\n".encode()

    def _client_list(self, asked: str) -> bytes:
        peers = self._logins(self._board.ups(asked))
        return framed(f"CLIENT {asked}", "".join(f"CLIENT {asked} {peer.address}\n" for peer in peers))


def _one_of(
    table: dict[str, tuple[int, Callable[[Peer, list[str]], bytes]]], peer: Peer, rest: list[str]
) -> bytes:
    least, answer = table.get(rest[0].upper(), (len(rest), None))
    if answer is None or len(rest) - 1 < least:
        raise Refused(Code.INVALID_ARGUMENT)
    return answer(peer, rest[1:])


def _username(peer: Peer, name: str) -> bytes:
    if peer.username:
        raise Refused(Code.ALREADY_SET_USERNAME)
    if not name:
        raise Refused(Code.INVALID_USERNAME)
    peer.username = name
    return OK


def _password(peer: Peer, password: str) -> bytes:
    if peer.password:
        raise Refused(Code.ALREADY_SET_PASSWORD)
    if not password:
        raise Refused(Code.INVALID_PASSWORD)
    peer.password = password
    return OK
