"""The whole error tree; each class says who reacts.

::

    QxfleetError
    ├── ConfigError            all problems of a configuration at once; exit code 2
    ├── LinkError              the session reacts: back off and reopen
    │   ├── LinkUnavailable      port missing, busy or no permission
    │   ├── LinkLost             was there, is gone
    │   └── LinkTimeout          opening or closing took too long
    ├── ReplyError             the session reacts: drain, repeat, then count
    │   ├── ReplyTimeout         nothing (whole) came in time
    │   ├── ReplyMalformed       a frame that is not what was asked for
    │   ├── ReplyImplausible     well formed, not believable
    │   └── ReplyRefused         echo or refusal word
    ├── DialectUnknown         detection failed; carries the evidence
    ├── OrderError             goes to whoever gave the order, before anything is sent
    │   ├── OrderNotSupported    the dialect or the device has no such order
    │   └── OrderInvalid         a value outside its range or not a number
    ├── PlanError              a plan can't do what was asked of it; goes to whoever asked
    ├── StoreError             the writer retries; health turns bad
    ├── BadRequest             a request that can't be read; goes to whoever made it
    ├── Forbidden              a user without the right to what was asked
    ├── InternalError          a fault of qxfleet's own, logged where it happened
    ├── AgentUnreachable       no running agent on the control socket; exit code 3
    ├── AgentRunning           the control socket belongs to another agent
    └── CannotListen           an address a network face is to listen at can't be had

Leaves also inherit the matching built-in, so both styles of ``except`` work.
"""

from __future__ import annotations

from collections.abc import Sequence


class QxfleetError(Exception):
    """Base of everything qxfleet raises on purpose."""


class ConfigError(QxfleetError, ValueError):
    """A configuration has problems; ``problems`` lists every one, ready to print."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class LinkError(QxfleetError, ConnectionError):
    """The way to the device is not usable; ``port`` says which, ``remedy`` what to do."""

    def __init__(self, port: str, reason: str, remedy: str = "") -> None:
        super().__init__(f"{port}: {reason}" + (f" ({remedy})" if remedy else ""))
        self.port = port
        self.reason = reason
        self.remedy = remedy


class LinkUnavailable(LinkError):
    """The port can't be opened; ``hopeless`` is set where haste can't help (no permission)."""

    def __init__(self, port: str, reason: str, remedy: str = "", *, hopeless: bool = False) -> None:
        super().__init__(port, reason, remedy)
        self.hopeless = hopeless


class LinkLost(LinkError):
    """The link was open and is gone."""


class LinkTimeout(LinkError, TimeoutError):
    """Opening or closing the link took too long."""


class ReplyError(QxfleetError):
    """An exchange gave no usable reply; ``frame`` holds at most the first 120 bytes of what came."""

    def __init__(self, reason: str, frame: bytes = b"") -> None:
        super().__init__(f"{reason}: {frame[:120]!r}" if frame else reason)
        self.reason = reason
        self.frame = frame[:120]


class ReplyTimeout(ReplyError, TimeoutError):
    """No complete reply within the deadline; ``frame`` holds what did arrive."""

    def __init__(self, reason: str = "silence", frame: bytes = b"") -> None:
        super().__init__(reason, frame)


class ReplyMalformed(ReplyError, ValueError):
    """A frame that is not the reply asked for.

    ``reason``: ``short`` ``long`` ``lead`` ``tokens`` ``number`` ``bits`` ``text``.
    """


class ReplyImplausible(ReplyError, ValueError):
    """A well-formed frame that can't be true; ``reason``: ``point`` ``zeros`` ``range`` ``frozen``."""


class ReplyRefused(ReplyError):
    """The device does not know the request; ``reason``: ``echo`` ``nak`` ``no-ack``."""


class DialectUnknown(QxfleetError):
    """No dialect fits what the device answered; ``evidence`` maps each probe to its answer."""

    def __init__(self, port: str, evidence: Sequence[tuple[bytes, str, bytes]]) -> None:
        tried = ", ".join(f"{q.decode('latin-1').strip()!r}: {kind}" for q, kind, _ in evidence) or "nothing tried"
        super().__init__(f"{port}: no dialect fits the answers ({tried})")
        self.port = port
        self.evidence = tuple(evidence)


class OrderError(QxfleetError):
    """An order or setting can't be carried out; nothing was sent."""


class OrderNotSupported(OrderError, LookupError):
    """The dialect, or this device, has no such order or setting."""


class OrderInvalid(OrderError, ValueError):
    """A value is not a number or outside its range."""


class PlanError(QxfleetError):
    """A plan can't do what was asked of it; nothing was done."""


class StoreError(QxfleetError):
    """The database can't be used as asked."""


class BadRequest(QxfleetError, ValueError):
    """A request can't be read: which argument is wrong, and what was expected."""


class Forbidden(QxfleetError, PermissionError):
    """A user lacks a right."""


class InternalError(QxfleetError, RuntimeError):
    """A fault of qxfleet's own ended a request; its traceback is in the log."""


class AgentUnreachable(QxfleetError, ConnectionError):
    """No agent answers on the control socket."""


class AgentRunning(QxfleetError):
    """Another agent answers on the control socket; one fleet has one owner."""


class CannotListen(QxfleetError, OSError):
    """A network face can't listen where it was told to; ``face`` is its table, ``remedy`` what to do."""

    def __init__(self, face: str, address: str, reason: str, remedy: str) -> None:
        super().__init__(f"[{face}] listen {address}: {reason}: {remedy}")
        self.face = face
        self.address = address
        self.remedy = remedy
