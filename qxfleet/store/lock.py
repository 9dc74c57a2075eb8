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
        self._state = state
        self._agent = agent
        self._file: int | None = None

    def take(self) -> None:
        """Take the lock. :class:`StateHeld` where another agent has it; OSError where no lock can be kept there."""
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "another qxfleet agent"
            os.close(file)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise StateHeld(
                f"state {self._state} is in use by {holder}: two agents can't share one; stop that one, or give this one "
                "a state of its own ([agent] state)"
            ) from error
        self._file = file
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(file, 0)
            os.pwrite(file, f"agent {self._agent} (pid {os.getpid()})\n".encode(), 0)

    def release(self) -> None:
        """Let go; the file stays, for its name costs nothing and taking it away would be a race."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
