"""The lock of an agent on its state: a file of its own beside it, tested before the database is touched."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from qxfleet.errors import StoreError


class StateHeld(StoreError):
    """Another qxfleet agent works with this state."""


class StateLock:
    """``<state>.lock``, which says who holds it. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, state: Path, agent: str) -> None:
        self.path = state.with_name(f"{state.name}.lock")
        self.agent = agent
        self.uuid: str | None = None
        """The agent's UUID as an earlier run left it here; None: it left none."""
        self._state = state
        self._file: int | None = None

    def take(self) -> None:
        """Take the lock, unless it is taken. :class:`StateHeld`: another agent has it; OSError: no lock can be kept there."""
        if self._file is not None:
            return
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _text(file).partition("\n")[0] or "another qxfleet agent"
            os.close(file)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise StateHeld(
                f"state {self._state} is in use by {holder}: two agents can't share one; stop that one, or give this one "
                "a state of its own ([agent] state)"
            ) from error
        self._file = file
        self.uuid = _text(file).partition("\n")[2].strip() or None
        self.sign(self.uuid or "")

    def sign(self, uuid: str) -> None:
        """Write down who holds the lock; the UUID is found here again when the state is lost."""
        if self._file is None:
            return
        self.uuid = uuid or None
        text = f"agent {self.agent} (pid {os.getpid()})\n{uuid}\n".encode()
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))

    def release(self) -> None:
        """Let go; the file stays, for its name costs nothing and taking it away would be a race."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _text(file: int) -> str:
    return os.pread(file, 300, 0).decode(errors="replace")
