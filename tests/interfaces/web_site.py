"""An agent with its web and metrics faces on three simulated UPSes, and a plain client for them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.interfaces.conftest import Site, short_folder, simulator, start, wait_for
from tests.parts import absent

USERS = """\
[[user]]
name = "operator"
password_file = "operator.secret"
allow = ["read", "command", "set", "test", "shutdown"]
[[user]]
name = "reader"
password_file = "reader.secret"
"""
PASSWORDS = {"operator": "the operator's", "reader": "the reader's"}
OPERATOR, READER = ("operator", PASSWORDS["operator"]), ("reader", PASSWORDS["reader"])


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def taken(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class WebSite(Site):
    """The site, and where its faces are."""

    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)

    def configure(self, more: str = USERS) -> None:
        """Write the configuration with both faces."""
        for name, password in PASSWORDS.items():
            file = self.folder / f"{name}.secret"
            file.write_text(password + "\n")
            file.chmod(0o600)
        self.write(
            f'include = ["{self.ups}/fleet.toml"]\n[http]\nlisten = ["127.0.0.1:{self.port}"]\n'
            f'[metrics]\nlisten = ["127.0.0.1:{self.metrics_port}"]\n{more}'
        )

    def start(self) -> None:
        """Start the agent, with the patience that a busy machine needs."""
        with (self.folder / "agent.log").open("a") as log:
            self.process = process = start("--config", self.config, "run", stderr=log, env=self.environment)
        wait_for(lambda: self.socket.exists() or process.poll() is not None, "a control socket", 60)
        assert process.poll() is None, self.log
        wait_for(lambda: all(map(taken, (self.port, self.metrics_port))), "the interfaces", 60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, method: str = "GET", *, user: tuple[str, str] | None = OPERATOR, token: str | None = None,
        body: object = None, port: int | None = None, **headers: str,
    ) -> Answer:  # fmt: skip
        """One request; the body as JSON unless it is bytes."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            fields["Authorization"] = f"Bearer {token}"
        elif user is not None:
            fields["Authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            fields.setdefault("Content-Type", "application/json")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)) as link:
            link.request(method, path, data, fields)
            answer = link.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def api(self, path: str, method: str = "GET", **options: Any) -> Answer:
        """A request to the API."""
        return self.ask(f"/api/v1{path}", method, **options)

    @contextlib.contextmanager
    def stream(self, path: str, **headers: str) -> Iterator[Iterator[tuple[str, str, Any]]]:
        """Server-sent events as they come: kind, id, data."""
        fields = {"Authorization": "Basic " + base64.b64encode(":".join(OPERATOR).encode()).decode()}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as link:
            link.request("GET", f"/api/v1{path}", headers=fields)
            answer = link.getresponse()
            assert answer.status == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            with contextlib.closing(answer):
                yield _messages(answer)


def _messages(answer: http.client.HTTPResponse) -> Iterator[tuple[str, str, Any]]:
    kind = number = ""
    while line := answer.readline().decode().rstrip("\n"):
        kind, number, data = "", "", None
        while line:
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                number = value
            elif name == "data":
                data = json.loads(value)
            line = answer.readline().decode().rstrip("\n")
        if data is not None:
            yield kind, number, data


@contextlib.contextmanager
def web_site(more: str = USERS, count: int = 3) -> Iterator[WebSite]:
    """A running site of one's own: mecer, zinto and megatec."""
    with short_folder() as folder, simulator(folder / "ups", count) as ups:
        site = WebSite(folder, ups)
        site.configure(more)
        try:
            site.start()
            site.all_online()
        except BaseException:
            if site.process is not None:
                site.process.kill()
                site.process.wait(20)
            raise
        try:
            yield site
        finally:
            if site.process is not None:
                assert site.stop() == 0, site.log


def program(name: str, package: str) -> str:
    """A program from Debian's packages; its test is skipped without it, except under ``CI=true``."""
    found = shutil.which(name)
    if found is None:
        absent(f"no {name} here: apt-get install -y {package}")
    return found


def soon(found: Any, what: str, within_s: float = 15.0) -> Any:
    """The first value of a callable that is true."""
    end_s = time.monotonic() + within_s
    while not (value := found()):
        assert time.monotonic() < end_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.1)
    return value
