"""The dialects we speak, in the order in which they are tried, and the status questions that open the conversation."""

from __future__ import annotations

from qxfleet.dialects.ablerex import ABLEREX
from qxfleet.dialects.axpert import AXPERT
from qxfleet.dialects.bestups import BESTUPS
from qxfleet.dialects.gtec import GTEC
from qxfleet.dialects.hunnox import HUNNOX
from qxfleet.dialects.innovatae import INNOVATAE
from qxfleet.dialects.masterguard import MASTERGUARD
from qxfleet.dialects.mecer import MECER
from qxfleet.dialects.megatec import MEGATEC
from qxfleet.dialects.megatec_old import MEGATEC_OLD
from qxfleet.dialects.mustek import MUSTEK
from qxfleet.dialects.nut import NUT
from qxfleet.dialects.omron import OMRON
from qxfleet.dialects.q1 import Q1
from qxfleet.dialects.spec import Dialect
from qxfleet.dialects.three_phase import INNOVART31, INNOVART33, Q2, Q6
from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.dialects.voltronic_qs import VOLTRONIC_QS
from qxfleet.dialects.voltronic_qs_hex import VOLTRONIC_QS_HEX
from qxfleet.dialects.zinto import ZINTO
from qxfleet.model.wire import sealing

DIALECTS: tuple[Dialect, ...] = (
    VOLTRONIC,  # before all others: such a unit may answer Q1 and QS as well, and lose most of what it has to say
    MASTERGUARD,  # before every F and M: FOFF and FON are orders there
    VOLTRONIC_QS,  # before mustek, whose status question is the same, and the Q1 speakers: M tells them
    VOLTRONIC_QS_HEX,
    BESTUPS,  # before the Q1 speakers, which have nothing like its ID
    INNOVART33,  # before the Q1 speakers, and the four from the one that says most to the one that says least
    INNOVART31,
    Q6,
    Q2,
    GTEC,  # before them too: Q4 says more than Q1
    ABLEREX,  # before megatec: it answers I and F as well, and tells its battery by Q5
    OMRON,  # before them: FWV tells it where its USB id does not
    HUNNOX,  # before zinto: FW? as well, and a charge by BL
    INNOVATAE,  # before megatec and mecer: its I is filled with one digit
    MECER,  # before megatec: a mecer unit answers I as well, and its (ACK would be misread
    ZINTO,  # before megatec: claimed only when FW? is answered and I is not
    MEGATEC,
    Q1,  # last of the Q1 speakers: needs nothing else
    MUSTEK,
    MEGATEC_OLD,
    AXPERT,  # last: asked with a CRC, on a line where nothing answered otherwise
)
"""First claim that holds wins (megatec-family.md section 9.4, extra-dialects.md section 2.3)."""

BROUGHT_BY_LINKS: tuple[Dialect, ...] = (NUT,)
"""What a link says by itself that its device speaks: never asked for, and asked of no device on another link."""

EVERY_DIALECT = (*BROUGHT_BY_LINKS, *DIALECTS)

STATUS_PROBES: tuple[bytes, ...] = (b"Q1\r", b"QGS\r", b"QS\r", b"WH\r", b"Q4\r", b"D\r", sealing(b"QPIGS"))
"""Asked until one is answered: Q1 first, which most units answer, and which so tells how long a unit takes over an answer."""


def dialect_named(name: str) -> Dialect | None:
    """The dialect of that name, case ignored; the seeds' own misspelling ``megataec`` included."""
    wanted = {"megataec": "megatec"}.get(name.lower(), name.lower())
    return next((dialect for dialect in EVERY_DIALECT if dialect.name == wanted), None)


def names() -> tuple[str, ...]:
    """Names of all dialects that a device can be asked for, in order."""
    return tuple(dialect.name for dialect in DIALECTS)


def claim_questions() -> tuple[bytes, ...]:
    """What is asked beside the status to tell dialects apart, in the order in which their claims are gone through."""
    wants = (want for dialect in DIALECTS for wants in dialect.claim.any_of for want in wants)
    return tuple(dict.fromkeys(want.request for want in wants))
