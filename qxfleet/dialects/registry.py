"""The dialects we speak, in the order in which they are tried, and the order of the probes that tell them apart."""

from __future__ import annotations

from qxfleet.dialects.mecer import MECER
from qxfleet.dialects.megatec import MEGATEC
from qxfleet.dialects.megatec_old import MEGATEC_OLD
from qxfleet.dialects.mustek import MUSTEK
from qxfleet.dialects.q1 import Q1
from qxfleet.dialects.spec import Dialect
from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.dialects.zinto import ZINTO

DIALECTS: tuple[Dialect, ...] = (
    VOLTRONIC,  # before all others: such a unit may answer Q1 and QS as well, and lose most of what it has to say
    MECER,  # before megatec: a mecer unit answers I as well, and its (ACK would be misread
    ZINTO,  # before megatec: claimed only when FW? is answered and I is not
    MEGATEC,
    Q1,  # last of the Q1 speakers: needs nothing else
    MUSTEK,
    MEGATEC_OLD,
)
"""First claim that holds wins (megatec-family.md section 9.4)."""

STATUS_PROBES: tuple[bytes, ...] = (b"QGS\r", b"Q1\r", b"QS\r", b"D\r")
"""Asked until one is answered and claimed: QGS first (quirks.md, Voltronic), then Q1, which most units answer."""

IDENTITY_PROBES: tuple[bytes, ...] = (b"QPI\r", b"M\r", b"I\r", b"FW?\r", b"F\r")
"""Asked once each when a status query was answered, as far as a claim on that status needs them; all are kept as evidence."""


def dialect_named(name: str) -> Dialect | None:
    """The dialect of that name, case ignored; the seeds' own misspelling ``megataec`` included."""
    wanted = {"megataec": "megatec"}.get(name.lower(), name.lower())
    return next((dialect for dialect in DIALECTS if dialect.name == wanted), None)


def names() -> tuple[str, ...]:
    """Names of all dialects, in order."""
    return tuple(dialect.name for dialect in DIALECTS)
