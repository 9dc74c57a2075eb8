"""Passwords as they are kept: ``$scrypt$ln=…,r=…,p=…$salt$key``, the form other programs write too."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection

LOG_N, R, P = 14, 8, 1
"""Cost of a hash made here: 16 MiB and some 50 ms (RFC 7914 section 2; OWASP's figures for interactive use)."""

SALT_BYTES, KEY_BYTES = 16, 32

MOST_MEMORY = 128 * 1024 * 1024
"""A hash that needs more is refused where it is read, so that no login can exhaust the machine."""

PREFIX = "$scrypt$"

_SHAPE = re.compile(r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,3}),p=([0-9]{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)", re.ASCII)


def hash_password(password: str) -> str:
    """A salted hash of a password, on one line."""
    salt = secrets.token_bytes(SALT_BYTES)
    key = _scrypt(password, salt, LOG_N, R, P, KEY_BYTES)
    return f"{PREFIX}ln={LOG_N},r={R},p={P}${_text(salt)}${_text(key)}"


def matches(password: str, kept: str) -> bool:
    """Whether a password is the one kept, as a hash or as it is; takes as long for a wrong one as for the right one.

    A hash costs some 50 ms of a processor: not for the loop.
    """
    if not kept.startswith(PREFIX):
        return hmac.compare_digest(hashlib.sha256(password.encode()).digest(), hashlib.sha256(kept.encode()).digest())
    log_n, r, p, salt, key = _parts(kept)
    return hmac.compare_digest(_scrypt(password, salt, log_n, r, p, len(key)), key)


Cost = tuple[int, int, int]
"""ln, r and p of a hash."""


def cost(kept: str) -> Cost:
    """What comparing with a kept password costs; one kept as it is costs what a hash made here does."""
    return _parts(kept)[:3] if kept.startswith(PREFIX) else (LOG_N, R, P)


def proves(password: str, kept: str | None, costs: Collection[Cost]) -> bool:
    """Whether a password is the one kept (None: nobody's), in a time that tells nothing about which one that is.

    That takes one hash of each of ``costs``, those of all users: so it is the same for every name. Not for the loop.
    """
    right = False
    for each in {*costs, (LOG_N, R, P)}:
        if kept is not None and each == cost(kept) and kept.startswith(PREFIX):
            right = matches(password, kept)
        else:
            _scrypt(password, b"the salt of nobody", *each, KEY_BYTES)
    if kept is not None and not kept.startswith(PREFIX):
        right = matches(password, kept)
    return right


def check_hash(kept: str) -> None:
    """Raises ValueError for a text that is no hash of ours, or one that costs too much."""
    log_n, r, p, _, key = _parts(kept)
    if not (log_n and r and p) or 128 * r * (1 << log_n) > MOST_MEMORY or p > 16 or len(key) < 16:
        raise ValueError(f"the hash's ln={log_n},r={r},p={p} are out of bounds: make one by `qxfleet user hash`")


def _parts(kept: str) -> tuple[int, int, int, bytes, bytes]:
    match = _SHAPE.fullmatch(kept)
    if match is None:
        raise ValueError(f'expected a hash made by `qxfleet user hash`, "{PREFIX}ln={LOG_N},r={R},p={P}$…$…"')
    return int(match[1]), int(match[2]), int(match[3]), _bytes(match[4]), _bytes(match[5])


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int, size: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=1 << log_n, r=r, p=p, dklen=size, maxmem=2 * MOST_MEMORY
    )  # fmt: skip


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii").rstrip("=")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("the hash is damaged: make a new one by `qxfleet user hash`") from None
