"""The lock of an agent on its state: a file of its own beside it, tested before the database is touched, and one on its file.

The first names its holder; it lies where the state really is, however many symbolic links lead there. The second catches what has
another name in a folder, a hard link: ``flock`` is apart from the locks that SQLite takes with ``fcntl`` on the same file.
"""

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
        real = Path(os.path.realpath(state))
        self.path = real.with_name(f"{real.name}.lock")
        self.agent = agent
        self.uuid: str | None = None
        """The agent's UUID as an earlier run left it here; None: it left none."""
        self._state = state
        self._file: int | None = None
        self._database: int | None = None

    def take(self) -> None:
        """Take both, unless they are taken; the file's goes along to another one that has come under the name.

        :class:`StateHeld`: another agent has one of them; OSError: no lock can be kept there.
        """
        if self._file is None:
            self._take_beside()
        self._take_file()

    def _take_beside(self) -> None:
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
            raise self._held_by(holder) from error
        self._file = file
        self.uuid = _text(file).partition("\n")[2].strip() or None
        self.sign(self.uuid or "")

    def _take_file(self) -> None:
        """Lock what is under the name now, if anything is that can be.

        SQLite's own locks on a file end when any descriptor of it is closed: this one stays open as long as that file is in use.
        """
        try:
            found = self._state.stat()
        except OSError:
            self._let_go_of_database()
            return
        if self._database is not None:
            if os.path.samestat(os.fstat(self._database), found):
                return
            self._let_go_of_database()
        with suppress(OSError):  # one that can't be read is told by SQLite
            file = os.open(self._state, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(file)
                raise self._held_by("another qxfleet agent, which has it under another name (a hard link)") from error
            self._database = file

    def _held_by(self, holder: str) -> StateHeld:
        return StateHeld(
            f"state {self._state} is in use by {holder}: two agents can't share one; stop that one, or give this one "
            "a state of its own ([agent] state)"
        )

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
        self._let_go_of_database()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _let_go_of_database(self) -> None:
        if self._database is not None:
            os.close(self._database)
            self._database = None


def _text(file: int) -> str:
    return os.pread(file, 300, 0).decode(errors="replace")
