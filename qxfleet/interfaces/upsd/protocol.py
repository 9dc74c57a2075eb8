"""Lines of the NUT network protocol: words and quotes, error codes, and the limits of both sides. Pure.

Sources: RFC 9271; what Debian's upsd and its clients do with the same lines (docs/nut.md has the comparison).
"""

from __future__ import annotations

import enum
import re

LONGEST_LINE = 1024
"""Bytes of a request; a longer one is answered TOO-LONG, unread."""

LONGEST_REPLY = 511
"""Bytes of a line of ours without its end: clients keep 512 (upsd's own limit)."""

MOST_WORDS = 32
"""Words of a request, as upsd counts them."""


class Code(enum.Enum):
    """Why a request is refused; the whole list of RFC 9271 section 4.1.2 that upsd sends."""

    ACCESS_DENIED = "ACCESS-DENIED"
    UNKNOWN_UPS = "UNKNOWN-UPS"
    VAR_NOT_SUPPORTED = "VAR-NOT-SUPPORTED"
    CMD_NOT_SUPPORTED = "CMD-NOT-SUPPORTED"
    INVALID_ARGUMENT = "INVALID-ARGUMENT"
    INSTCMD_FAILED = "INSTCMD-FAILED"
    SET_FAILED = "SET-FAILED"
    READONLY = "READONLY"
    TOO_LONG = "TOO-LONG"
    FEATURE_NOT_SUPPORTED = "FEATURE-NOT-SUPPORTED"
    FEATURE_NOT_CONFIGURED = "FEATURE-NOT-CONFIGURED"
    ALREADY_SSL_MODE = "ALREADY-SSL-MODE"
    DRIVER_NOT_CONNECTED = "DRIVER-NOT-CONNECTED"
    DATA_STALE = "DATA-STALE"
    ALREADY_LOGGED_IN = "ALREADY-LOGGED-IN"
    INVALID_PASSWORD = "INVALID-PASSWORD"
    ALREADY_SET_PASSWORD = "ALREADY-SET-PASSWORD"
    INVALID_USERNAME = "INVALID-USERNAME"
    ALREADY_SET_USERNAME = "ALREADY-SET-USERNAME"
    USERNAME_REQUIRED = "USERNAME-REQUIRED"
    PASSWORD_REQUIRED = "PASSWORD-REQUIRED"
    UNKNOWN_COMMAND = "UNKNOWN-COMMAND"
    INVALID_VALUE = "INVALID-VALUE"
    UNKNOWN = "UNKNOWN"
    """Of GET TRACKING only: an id that is not known."""

    @property
    def line(self) -> bytes:
        """The answer."""
        return f"ERR {self.value}\n".encode()


class Refused(Exception):
    """A request can't be answered; ``code`` says why."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


_PLAIN = re.compile(rb"[!#-\[\]-~ ]*")
"""Neither quotes nor backslashes nor anything that is no printable ASCII: nearly every line there is."""

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|((?:[^\s"\\]|\\.)+)')
_BLANKS = re.compile(r"\s*")


def words(line: bytes) -> list[str]:
    """The words of a request without its end. Raises Refused for a quote that stays open, and for too many words.

    Blanks part words, double quotes hold one together, a backslash takes the next character as it is; control characters are
    dropped.
    """
    if _PLAIN.fullmatch(line):
        found = line.decode("ascii").split()
    else:
        found = _quoted_words("".join(
            char for char in line.decode("utf-8", "replace") if char in "\t\r" or char.isprintable()
        ))  # fmt: skip
    if len(found) > MOST_WORDS:
        raise Refused(Code.INVALID_ARGUMENT)
    return found


def _quoted_words(text: str) -> list[str]:
    found: list[str] = []
    at = _end_of_blanks(text, 0)
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            raise Refused(Code.INVALID_ARGUMENT)
        word = match[1] if match[1] is not None else match[2]
        found.append(re.sub(r"\\(.)", r"\1", word))
        at = _end_of_blanks(text, match.end())
    return found


def _end_of_blanks(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def quoted(text: str) -> str:
    """A value between double quotes; what could end the line is dropped."""
    if not text.isprintable():
        text = "".join(char for char in text if char.isprintable())
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def line(head: str, value: str) -> str:
    """``head "value"`` with its end, the value cut where the line would be longer than clients read."""
    text = f"{head} {quoted(value)}"
    while len(text.encode()) > LONGEST_REPLY and value:
        value = value[: -max(1, (len(text.encode()) - LONGEST_REPLY) // 4)]
        text = f"{head} {quoted(value)}"
    return text + "\n"


def framed(asked: str, lines: str) -> bytes:
    """A list: what was asked stands before and behind it."""
    return f"BEGIN LIST {asked}\n{lines}END LIST {asked}\n".encode()
