"""The command line's end of the control socket, against a socket that does what it is told."""

from __future__ import annotations

import _thread
import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qxfleet.api import requests
from qxfleet.errors import AgentUnreachable
from qxfleet.interfaces.cli.client import ask, follow

FOLLOW = requests.Follow()


@contextlib.contextmanager
def saying(folder: Path, *pieces: bytes, then_end: bool = True) -> Iterator[Path]:
    """A socket that answers each caller's first line with the pieces."""
    path = folder / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(65536)
                for piece in pieces:
                    link.sendall(piece)
                if not then_end:
                    link.recv(1)

        server = threading.Thread(target=serve)
        server.start()
        yield path
        server.join()


def item(value: dict[str, object]) -> bytes:
    return json.dumps({"id": 1, "item": value}, ensure_ascii=False).encode() + b"\n"


def test_items_come_whole_however_the_socket_cuts_them(tmp_path: Path) -> None:
    text = item({"name": "käse"}) + item({"many": "x" * 200_000}) + item({"last": 3})
    cut = text.index("ä".encode()) + 1
    pieces = text[:cut], text[cut : cut + 1], text[cut + 1 :]
    with saying(tmp_path, *pieces) as path, contextlib.closing(follow(path, FOLLOW)) as items:
        assert [next(items) for _ in range(3)] == [{"name": "käse"}, {"many": "x" * 200_000}, {"last": 3}]
        with pytest.raises(AgentUnreachable, match="has stopped"):
            next(items)


def test_an_answer_that_breaks_off_is_none(tmp_path: Path) -> None:
    with saying(tmp_path, b'{"id": 1, "result": {}}') as path, pytest.raises(AgentUnreachable, match="has stopped"):
        ask(path, requests.Status())


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with saying(tmp_path, then_end=False) as path, pytest.raises(AgentUnreachable, match="no answer within 1 s"):
        ask(path, requests.Status(), 0.6)


def test_ctrl_c_just_before_the_wait_begins_ends_it(tmp_path: Path) -> None:
    """``interrupt_main`` notes the signal as the kernel's delivery does, and like a late one it interrupts no system call."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupting = threading.Timer(0.3, _thread.interrupt_main)
    try:
        with saying(tmp_path, item({"first": 1}), then_end=False) as path, contextlib.closing(follow(path, FOLLOW)) as items:
            assert next(items) == {"first": 1}
            interrupting.start()
            with pytest.raises(KeyboardInterrupt):
                next(items)
    finally:
        interrupting.join()
        signal.signal(signal.SIGINT, before)
