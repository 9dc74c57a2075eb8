"""Serial ports: pyserial opens and configures, the kernel frames the lines, the event loop reads and writes.

Framing by the kernel (canonical mode, the end byte as its end of line) means one wake-up per reply instead of one per
byte; waking up is what a poll costs. Its limits: a reply without end byte stays invisible, so what hangs in the kernel is
fetched when the deadline is over, and a unit that never sends one is read byte by byte (``raw``).
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import fcntl
import grp
import os
import stat
import termios
from pathlib import Path
from typing import Any, Final, Literal, get_args

import serial

from qxfleet.errors import LinkTimeout, LinkUnavailable
from qxfleet.transports.base import LinkInfo
from qxfleet.transports.descriptor import DescriptorTransport
from qxfleet.transports.line import CHUNK, reason_of

CablePower = Literal["normal", "reverse", "both", "none"]

LINES: Final[dict[str, tuple[bool, bool]]] = {
    "normal": (True, False),
    "reverse": (False, True),
    "both": (True, True),
    "none": (False, False),
}
"""cablepower → (DTR, RTS): the lines that feed the interface of the UPS (engine.md section 3)."""

BAUD: Final = 2400
BITS_PER_BYTE: Final = 10

SETTLE_S: Final = 0.1
"""After DTR and RTS changed, the interface they feed needs this long (engine.md section 3)."""

OPEN_S: Final = 5.0
CLOSE_S: Final = 2.0


class SerialTransport(DescriptorTransport):
    """A UPS on a serial port, 2400 8N1, locked against other programs.

    ``path`` may be a link, such as one of ``/dev/serial/by-id``; it is followed anew at each opening. ``cablepower`` sets
    DTR and RTS (engine.md section 3); pseudo-terminals have no such lines and do without.
    """

    __slots__ = ("cablepower",)

    byte_s = BITS_PER_BYTE / BAUD
    loss_remedy = "is the adapter still plugged in?"

    def __init__(self, path: str, cablepower: str = "normal", *, raw: bool = False) -> None:
        if cablepower not in LINES:
            raise ValueError(f"cablepower {cablepower!r} is none of {', '.join(get_args(CablePower))}")
        super().__init__(path, raw=raw)
        self.cablepower = cablepower

    async def open(self) -> LinkInfo:
        """Lock and configure the port. Raises LinkUnavailable or LinkTimeout."""
        if self._loop is not None:
            raise RuntimeError(f"{self.label}: is open already")
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, _open, self.label, self.cablepower)
        try:
            async with asyncio.timeout(OPEN_S):
                fd, path, modem_lines = await asyncio.shield(opening)
        except (TimeoutError, asyncio.CancelledError) as error:
            opening.add_done_callback(_abandon)
            if isinstance(error, asyncio.CancelledError):
                raise
            reason = f"opening took more than {OPEN_S:g} s"
            raise LinkTimeout(self.label, reason, "unplug the adapter and plug it in again") from None
        except OSError as error:
            raise _unavailable(self.label, error) from error
        self._watch(loop, fd)
        try:
            self._frame_by(raw=self.raw)
            if modem_lines:
                await asyncio.sleep(SETTLE_S)
            self._flush()
        except OSError as error:
            await self.close()
            raise LinkUnavailable(self.label, reason_of(error), self.loss_remedy) from error
        except asyncio.CancelledError:
            await self.close()
            raise
        detail = f"serial {BAUD} 8N1, cablepower {self.cablepower}"
        return LinkInfo(path, detail + ", replies without end byte" if self.raw else detail)

    async def close(self) -> None:
        """Lower DTR and RTS and free the port; see ``transports.base.Transport``."""
        loop, fd = asyncio.get_running_loop(), self._fd
        self._finish()
        self._fd = -1
        if fd >= 0:
            await asyncio.wait({loop.run_in_executor(None, _close, fd)}, timeout=CLOSE_S)

    def _flush(self) -> None:
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except termios.error as error:
            raise OSError(*error.args) from error

    def _send(self, request: bytes) -> int:
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
            return os.write(self._fd, request)
        except BlockingIOError:
            return 0
        except termios.error as error:
            raise OSError(*error.args) from error

    def _frame_by(self, *, raw: bool) -> None:
        _frame(self._fd, None if raw else self._end)

    def _unfinished(self) -> bytes:
        """What waits in the kernel for an end byte becomes readable when the kernel stops looking for one."""
        frames: list[bytes] = []
        if not self.raw:
            self._frame_by(raw=True)
            with contextlib.suppress(BlockingIOError):
                frames = self._framer.feed(os.read(self._fd, CHUNK))
            self._frame_by(raw=False)
            self._flush()
        return frames[0] if frames else self._framer.pending()


def _frame(fd: int, end: int | None) -> None:
    """Have the kernel cut lines at ``end`` only, or hand over every byte. Raises OSError."""
    try:
        _, oflag, cflag, _, ispeed, ospeed, cc = termios.tcgetattr(fd)
        disabled = bytes((os.fpathconf(fd, "PC_VDISABLE") & 0xFF,))
        special: list[Any] = [disabled] * len(cc)
        if end is None:
            special[termios.VMIN], special[termios.VTIME] = 1, 0
            lflag = 0
        else:
            special[termios.VEOL] = bytes((end,))
            lflag = termios.ICANON
        iflag = termios.IGNPAR | termios.IGNBRK
        cflag |= termios.HUPCL
        termios.tcsetattr(fd, termios.TCSANOW, [iflag, oflag, cflag, lflag, ispeed, ospeed, special])
    except termios.error as error:
        raise OSError(*error.args) from error


def _open(path: str, cablepower: str) -> tuple[int, str, bool]:
    """Descriptor, real path, and whether DTR and RTS exist. Blocking; raises OSError."""
    port = serial.Serial(None, BAUD, timeout=0, write_timeout=0, exclusive=True)
    port.dtr, port.rts = LINES[cablepower]
    port.port = path
    try:
        port.open()
    except OSError as error:
        if error.errno is None and isinstance(error.__context__, termios.error):
            raise OSError(*error.__context__.args) from error
        raise
    except termios.error as error:
        raise OSError(*error.args) from error
    try:
        fd = os.dup(port.fileno())  # pyserial keeps four more descriptors per port for its own read and write
    finally:
        port.close()
    try:
        try:
            fcntl.ioctl(fd, termios.TIOCMGET, array.array("i", (0,)))
            modem_lines = True
        except OSError:
            modem_lines = False
        return fd, os.path.realpath(path), modem_lines
    except BaseException:
        os.close(fd)
        raise


def _close(fd: int) -> None:
    with contextlib.suppress(termios.error):
        termios.tcflush(fd, termios.TCOFLUSH)  # a line that takes nothing would hold up close
    with contextlib.suppress(OSError):
        os.close(fd)


def _abandon(opening: asyncio.Future[tuple[int, str, bool]]) -> None:
    """The port opened after all, when nobody wanted it any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.get_loop().run_in_executor(None, _close, opening.result()[0])


def _unavailable(path: str, error: OSError) -> LinkUnavailable:
    """Why a port can't be opened, and what to do about it."""
    code = error.errno
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR):
        return LinkUnavailable(path, "no such port", "is the adapter plugged in?")
    if code in (errno.EAGAIN, errno.EBUSY):
        remedy = f"the qxfleet agent or a NUT driver? `fuser {path}` names the holder"
        return LinkUnavailable(path, "another program holds it", remedy)
    if code in (errno.EACCES, errno.EPERM):
        return LinkUnavailable(path, "no permission", _who_may(path), hopeless=True)
    if code in (errno.EMFILE, errno.ENFILE):
        return LinkUnavailable(path, "too many open files", "raise the limit: `ulimit -n` or LimitNOFILE=")
    if code in (errno.ENOTTY, errno.EISDIR, errno.EINVAL):
        return LinkUnavailable(path, "is not a serial port", "give a tty such as /dev/ttyS0 or one of /dev/serial/by-id")
    if code == errno.EIO:
        return LinkUnavailable(path, "no hardware behind this port", "`qxfleet discover` lists the ports there are")
    return LinkUnavailable(path, reason_of(error))


def _who_may(path: str) -> str:
    group = "dialout"
    with contextlib.suppress(OSError, KeyError):
        status = Path(path).stat()
        if status.st_mode & stat.S_IWGRP and status.st_gid:
            group = grp.getgrgid(status.st_gid).gr_name
    return f"add the user to group {group}: `usermod -aG {group} USER`, then log in anew"
