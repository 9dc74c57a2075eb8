"""What steps may do, tried on real programs, a real HTTP server and real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from qxfleet.model.events import Outcome
from qxfleet.shutdown.effects import KEPT_CHARACTERS, Port, RealEffects, magic_packet

effects = RealEffects()


def script(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def state_of(pid: str) -> str:
    """A process's letter in ``ps``."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return "gone"


async def test_a_command_that_succeeds_is_accepted_with_what_it_said() -> None:
    done = await effects.command(["/bin/echo", "two", "words; and $HOME"], 5)
    assert (done.outcome, done.text) == (Outcome.ACCEPTED, "two words; and $HOME")  # no shell looked at it


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["/bin/false"], "/bin/false: exit code 1"),
        (["/bin/sh", "-c", "echo no such host >&2; exit 255"], "/bin/sh: exit code 255: no such host"),
        (["/bin/sh", "-c", "kill -TERM $$"], "/bin/sh: ended by SIGTERM"),
        (["/no/such/program"], "/no/such/program can't be started: No such file or directory"),
        (["/etc/passwd"], "/etc/passwd can't be started: Permission denied"),
        (["/bin/echo", "a\0b"], "/bin/echo can't be started: embedded null byte"),
    ],
)
async def test_a_command_that_fails_is_rejected_and_says_why(argv: list[str], text: str) -> None:
    done = await effects.command(argv, 5)
    assert (done.outcome, done.text) == (Outcome.REJECTED, text)


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began_s = time.monotonic()
    done = await effects.command(["/bin/sh", "-c", f"echo begun; sleep 60 & echo $! > {pid}; wait"], 0.5)
    assert time.monotonic() - began_s < 30
    assert done.outcome is Outcome.UNCONFIRMED
    assert done.text == "/bin/sh did not end within 0.5 s and was killed: begun"
    await asyncio.sleep(0.1)
    assert state_of(pid.read_text().strip()) in ("gone", "Z")


async def test_a_daemon_left_behind_does_not_hold_the_step(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began_s = time.monotonic()
    done = await effects.command(["/bin/sh", "-c", f"sleep 30 & echo $! > {pid}; echo done"], 10)
    assert (done.outcome, done.text) == (Outcome.ACCEPTED, "done")
    assert time.monotonic() - began_s < 8
    os.kill(int(pid.read_text()), 9)


async def test_of_much_output_the_end_is_kept() -> None:
    done = await effects.command(script("print('x' * 1000000); print('\\x1b[31mat last\\x1b[0m')"), 10)
    assert done.text.startswith("…xxx") and done.text.endswith("?[31mat last?[0m")
    assert len(done.text) <= KEPT_CHARACTERS + 1


async def test_a_command_that_closes_its_output_costs_nothing_more() -> None:
    began_s = time.process_time()
    done = await effects.command(["/bin/sh", "-c", "echo bye; exec >&- 2>&-; sleep 0.5"], 10)
    assert (done.outcome, done.text) == (Outcome.ACCEPTED, "bye")
    assert time.process_time() - began_s < 0.3


async def test_a_cancelled_command_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    task = asyncio.create_task(effects.command(["/bin/sh", "-c", f"echo $$ > {pid}; sleep 60"], 60))
    while not (pid.exists() and pid.read_text()):
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_a_hundred_commands_at_once_hold_up_nobody() -> None:
    hung = [asyncio.create_task(effects.command(["/bin/sleep", "60"], 20.0)) for _ in range(50)]
    quick = await asyncio.gather(*(effects.command(["/bin/true"], 15) for _ in range(50)))
    assert not any(task.done() for task in hung)  # nobody waited for those that hang
    for task in hung:
        task.cancel()
    await asyncio.gather(*hung, return_exceptions=True)
    assert {done.outcome for done in quick} == {Outcome.ACCEPTED}


class Hook(BaseHTTPRequestHandler):
    """Answers by path: ``/CODE``, or ``/hang``."""

    heard: ClassVar[list[tuple[str, dict[str, str], Any]]] = []
    released = threading.Event()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append((self.path, dict(self.headers), body))
        if self.path == "/hang":
            Hook.released.wait(10)
        code = 200 if self.path == "/hang" else int(self.path[1:])
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/200")
        self.end_headers()
        self.wfile.write(b"understood\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.heard.clear()
    Hook.released.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Hook.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_webhook_is_posted_as_json(hook: str) -> None:
    done = await effects.webhook(f"{hook}/202", {"Authorization": "Bearer x"}, {"load": "db-1", "do": "stop"}, 5)
    assert (done.outcome, done.text) == (Outcome.ACCEPTED, "HTTP 202: understood")
    ((path, headers, body),) = Hook.heard
    assert (path, body) == ("/202", {"load": "db-1", "do": "stop"})
    assert headers["Content-Type"] == "application/json" and headers["Authorization"] == "Bearer x"


async def test_a_webhook_refused_or_sent_elsewhere_is_rejected(hook: str) -> None:
    done = await effects.webhook(f"{hook}/503", {}, {}, 5)
    assert (done.outcome, done.text) == (Outcome.REJECTED, "HTTP 503 Service Unavailable: understood")
    done = await effects.webhook(f"{hook}/302", {}, {}, 5)
    assert (done.outcome, done.text) == (Outcome.REJECTED, "HTTP 302 Found: understood")
    assert [path for path, _, _ in Hook.heard] == ["/503", "/302"]


async def test_a_webhook_that_hangs_or_is_not_there(hook: str) -> None:
    done = await effects.webhook(f"{hook}/hang", {}, {}, 0.3)
    assert done.outcome is Outcome.UNCONFIRMED and "may have been received" in done.text
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        done = await effects.webhook(f"http://127.0.0.1:{free.getsockname()[1]}/", {}, {}, 5)
    assert done.outcome is Outcome.REJECTED and "Connection refused" in done.text


async def test_ports_open_refused_silent_unknown() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number = listener.getsockname()[1]
        assert await effects.port("127.0.0.1", number, 1) is Port.REFUSED  # bound, nobody listens
        listener.listen(1)
        assert await effects.port("127.0.0.1", number, 1) is Port.OPEN
        fillers = []
        for _ in range(8):  # a backlog that is full leaves the next one without an answer
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", number))
            fillers.append(filler)
        assert await effects.port("127.0.0.1", number, 0.3) is Port.SILENT
        for filler in fillers:
            filler.close()
    assert await effects.port("no-such-host.invalid", 22, 5) is Port.UNKNOWN


async def test_a_magic_packet_arrives() -> None:
    assert magic_packet("00:11:22:aa:BB:cc") == b"\xff" * 6 + bytes.fromhex("001122aabbcc") * 16
    with pytest.raises(ValueError, match="no hardware address"):
        magic_packet("00:11:22:aa:BB")
    done = await effects.wake("00-11-22-aa-bb-cc", "127.0.0.1")
    assert done.outcome is Outcome.UNCONFIRMED and "00-11-22-aa-bb-cc" in done.text
    assert (await effects.wake("nonsense", "127.0.0.1")).outcome is Outcome.REJECTED
