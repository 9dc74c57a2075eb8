"""The command line's end of the control socket. Imports nothing heavy: ``status`` must answer at once."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
import tomllib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from qxfleet.api.requests import Request
from qxfleet.errors import AgentUnreachable, ConfigError, QxfleetError

R = TypeVar("R")
ENVIRONMENT = "QXFLEET_CONFIG"
STANDARD_FILE = Path("/etc/qxfleet/qxfleet.toml")
STANDARD_SOCKET = "/run/qxfleet/agent.sock"
"""The same as the configuration's own; repeated because its schema takes longer to load than an answer to come."""

ANSWER_S = 10.0
ORDER_S = 60.0
"""Longest wait for an answer; an order may wait for others before it, and for its effect to show."""


LOOK_S = 0.25
"""Longest uninterrupted wait. Python acts on a signal between two of its steps: one that comes after the last step and before the
kernel's wait has begun does not end that wait (1 Ctrl-C in 100 right behind a line, measured)."""


class AgentRefused(QxfleetError):
    """The agent answered with an error; ``code`` is the protocol's word for it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def control_socket(config: Path | None) -> Path:
    """Where the agent of a configuration listens. Reads ``[agent] control`` of the main file and nothing else.

    So a mistake elsewhere in a file that is being edited does not cut people off from the running agent. Raises ConfigError.
    """
    named = config or (Path(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None)
    file = named or STANDARD_FILE
    try:
        with file.open("rb") as stream:
            agent = tomllib.load(stream).get("agent", {})
    except (FileNotFoundError, PermissionError) as error:
        if named is None:
            return Path(STANDARD_SOCKET)
        remedy = "name an existing file with --config" if isinstance(error, FileNotFoundError) else "it must be readable"
        raise ConfigError([f"{file}: {error.strerror}: {remedy}"]) from None
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror}: name a file with --config"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: not TOML ({error}): `qxfleet check` tells more"]) from None
    control = agent.get("control", STANDARD_SOCKET) if isinstance(agent, dict) else STANDARD_SOCKET
    if not isinstance(control, str) or not control:
        raise ConfigError([f"{file}: agent.control: expected a path in quotes, found {control!r}"])
    return file.absolute().parent / control


class _Lines:
    """Lines as they come over a socket."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._taken = bytearray()

    def next(self, timeout_s: float | None) -> str:
        """The next line; without its end if the other side ended. Raises TimeoutError when nothing comes for so long, OSError."""
        seen = 0
        while (end := self._taken.find(b"\n", seen)) < 0:
            seen = len(self._taken)
            self._await(timeout_s)
            piece = self._link.recv(65536)
            if not piece:
                break
            self._taken += piece
        line = bytes(self._taken[: end + 1] if end >= 0 else self._taken)
        del self._taken[: len(line)]
        return line.decode()

    def _await(self, timeout_s: float | None) -> None:
        began_s = time.monotonic()
        while not select.select([self._link], [], [], LOOK_S)[0]:
            if timeout_s is not None and time.monotonic() - began_s >= timeout_s:
                raise TimeoutError


@contextmanager
def _connected(path: Path, timeout_s: float) -> Iterator[tuple[socket.socket, _Lines]]:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(timeout_s)
        try:
            link.connect(str(path))
        except PermissionError:
            raise PermissionError(f"{path}: no permission (ask to be added to the group of {path}{_group(path)})") from None
        except OSError as error:
            why = "" if isinstance(error, (FileNotFoundError, ConnectionRefusedError)) else f" ({error})"
            raise AgentUnreachable(f"no agent answers on {path}{why}: start it with `qxfleet run`") from None
        yield link, _Lines(link)


def ask(path: Path, request: Request[R], timeout_s: float = ANSWER_S) -> R:
    """The agent's answer to one request. Raises AgentUnreachable, AgentRefused, PermissionError."""
    with _connected(path, timeout_s) as (link, lines):
        try:
            link.sendall(line_of(request))
            line = lines.next(timeout_s)
        except TimeoutError:
            raise AgentUnreachable(f"the agent on {path} gave no answer within {timeout_s:.0f} s") from None
        except ConnectionError as error:
            raise AgentUnreachable(f"the agent on {path} went away before it answered ({error})") from None
        answer: R = taken(line, path)["result"]
        return answer


def follow(path: Path, request: Request[R]) -> Generator[R, None, None]:
    """Items of a stream as they come, until the agent ends (AgentUnreachable) or drops the stream (AgentRefused)."""
    with _connected(path, ANSWER_S) as (link, lines):
        try:
            link.sendall(line_of(request))
            yield taken(lines.next(ANSWER_S), path)["item"]
            while True:
                yield taken(lines.next(None), path)["item"]
        except TimeoutError:
            raise AgentUnreachable(f"the agent on {path} gave no answer within {ANSWER_S:.0f} s") from None
        except ConnectionError as error:
            if isinstance(error, AgentUnreachable):
                raise
            raise AgentUnreachable(f"the agent on {path} went away ({error})") from None


def work(path: Path, request: Request[R], timeout_s: float = ORDER_S) -> Iterator[R]:
    """Items of a stream that ends by itself, the last with ``ended``. Raises AgentUnreachable, AgentRefused, PermissionError.

    The first Ctrl-C asks the agent to end it behind what is under way; a second one leaves at once.
    """
    with _connected(path, timeout_s) as (link, lines):

        def end(number: int, frame: object) -> None:
            signal.signal(signal.SIGINT, before)
            link.sendall(b"\n")

        before = signal.signal(signal.SIGINT, end)
        try:
            link.sendall(line_of(request))
            ended = False
            while not ended:
                item = taken(lines.next(timeout_s), path)["item"]
                ended = "ended" in item
                yield item
        except TimeoutError:
            raise AgentUnreachable(f"the agent on {path} said nothing for {timeout_s:.0f} s") from None
        except ConnectionError as error:
            if isinstance(error, AgentUnreachable):
                raise
            raise AgentUnreachable(f"the agent on {path} went away ({error})") from None
        finally:
            signal.signal(signal.SIGINT, before)


def line_of(request: Request[Any]) -> bytes:
    """One request as it goes over the socket."""
    return json.dumps({"id": 1, "do": request.do, "args": request.arguments()}).encode() + b"\n"


def taken(line: str, path: Path) -> dict[str, Any]:
    """One line of an answer. Raises AgentRefused for an error, AgentUnreachable for the end."""
    if not line.endswith("\n"):
        raise AgentUnreachable(f"the agent on {path} has stopped")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise AgentRefused(answer["error"]["code"], answer["error"]["text"])
    return answer


def _group(path: Path) -> str:
    """The socket's group in brackets, where it can be seen."""
    import grp

    try:
        return f", which is {grp.getgrgid(path.stat().st_gid).gr_name}"
    except (OSError, KeyError):
        return ""
