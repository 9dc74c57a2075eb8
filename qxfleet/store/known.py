"""Who each UPS is, kept in a file beside the state: what was found out on mains can't be found out again on battery.

The number of packs turns 2.07 V of a cell into 81 V of a battery, and is decided on mains only. An agent that lost its state and
starts in an outage finds it here.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from qxfleet.errors import StoreError
from qxfleet.model.reading import Identity
from qxfleet.store.rows import identity_json, identity_of

SPARE = 2
"""A file with so many lines for each UPS is written anew at the start."""

CLOSE_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recognised:
    """A UPS as it was recognised at a time, on a port or by a fingerprint."""

    ups: str
    at_us: int
    port: str
    identity: Identity

    def line(self) -> list[object]:
        """As the file has it."""
        return ["i", self.ups, self.at_us, self.port, identity_json(self.identity)]

    @classmethod
    def of_line(cls, line: object) -> Recognised:
        """Back from the file. :class:`StoreError`: it is none of ours."""
        match line:
            case ["i", str(ups), int(at_us), str(port), identity]:
                return cls(ups, at_us, port, identity_of(ups, identity))
        raise StoreError(f"no identity: {str(line)[:200]}")


class Known:
    """The UPSes of one agent; ``path`` None: in memory only. Whatever the disk does, it is only logged and holds nobody up."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, Recognised] = {}
        self._queue: queue.SimpleQueue[Recognised | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._keep, name="store-known", daemon=True)

    def read(self, upses: Collection[str]) -> None:
        """Take what an earlier run left of these UPSes, and begin to write. Blocks for the disk."""
        if self._path is None:
            return
        try:
            left = self._left(self._path)
        except OSError as error:
            log.warning("who the UPSes are can't be read from %s: %s", self._path, error)
        else:
            self._found = {**{name: one for name, one in left.items() if name in upses}, **self._found}
        self._thread.start()

    def learned(self, *each: Recognised) -> None:
        """Remember UPSes; returns at once."""
        for one in each:
            self._found[one.ups] = one
            if self._path is not None:
                self._queue.put(one)

    def all(self) -> dict[str, Recognised]:
        """What is known now, by name."""
        return dict(self._found)

    def close(self) -> None:
        """Write what waits, unless the disk hangs."""
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join(CLOSE_S)

    def _keep(self) -> None:
        assert self._path is not None
        while (one := self._queue.get()) is not None:
            try:
                _append(self._path, [one])
            except OSError as error:
                log.warning("who %s is can't be written to %s: %s", one.ups, self._path, error)

    @staticmethod
    def _left(path: Path) -> dict[str, Recognised]:
        found: dict[str, Recognised] = {}
        lines = [line for line in path.read_bytes().split(b"\n") if line] if path.exists() else []
        for line in lines:
            try:
                one = Recognised.of_line(json.loads(line))
            except (StoreError, ValueError):
                log.warning("%s: a line can't be read: %s", path, line[:200].decode(errors="replace"))
            else:
                found[one.ups] = one
        if len(lines) > SPARE * len(found):
            part = path.with_name(path.name + ".part")
            part.unlink(missing_ok=True)
            _append(part, found.values())
            part.replace(path)
        return found


def _append(path: Path, each: Iterable[Recognised]) -> None:
    """Lines of JSON, synced; a line that was cut off stays by itself."""
    text = b"".join(b"\n" + json.dumps(one.line(), separators=(",", ":")).encode() + b"\n" for one in each)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
