"""A real Chromium, spoken to over its debugging pipe (the DevTools protocol): no driver, no port."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
    "--disable-dev-shm-usage", "--mute-audio", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


class Page:
    """One tab. Everything the page complains about is in ``complaints``."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self.target = target
        self._session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol."""
        return self._browser.call(method, params, self._session, self)

    def open(self, url: str) -> None:
        """Go there; returns when its scripts have run."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'", url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str, what: str = "", within_s: float = 20.0) -> None:
        """Look until an expression is true."""
        end_s = time.monotonic() + within_s
        while True:
            with contextlib.suppress(AssertionError):
                if self.run(condition):
                    return
            assert time.monotonic() < end_s, f"not within {within_s:g} s: {what or condition}; {self.complaints}"
            time.sleep(0.05)

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", {"targetId": self.target})

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """The window's size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def dark(self) -> None:
        """As a reader sees it who likes it dark."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """What it looks like."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Something the page told by itself."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()

        def wire() -> None:
            os.dup2(to_read, 13)
            os.dup2(to_write, 14)
            os.dup2(13, 3)
            os.dup2(14, 4)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"], preexec_fn=wire, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._number = 0
        self._left = b""

    def page(self) -> Page:
        """A new tab."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        return Page(self, self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"], target)

    def call(self, method: str, params: dict[str, Any], session: str | None = None, page: Page | None = None) -> Any:
        """One command and its answer; what is told meanwhile goes to the page."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            if "method" in answer and page is not None:
                page.heard(answer["method"], answer["params"])

    def _next(self) -> dict[str, Any]:
        end_s = time.monotonic() + 30
        while b"\0" not in self._left:
            assert select.select([self._read], [], [], max(0.0, end_s - time.monotonic()))[0], "the browser says nothing"
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "the browser is gone"
            self._left += chunk
        line, self._left = self._left.split(b"\0", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End it with everything it started."""
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close", {})
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
        os.close(self._read)
        os.close(self._write)


@contextlib.contextmanager
def browser(program: str) -> Iterator[Browser]:
    """A browser for as long as it is needed."""
    folder = Path(tempfile.mkdtemp(prefix="qxweb"))
    made = Browser(program, folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)
