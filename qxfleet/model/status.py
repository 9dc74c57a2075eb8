"""What a UPS is doing: the flags of ``ups.status``, and how one frame's bits become them."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Status(enum.IntFlag):
    """NUT's status tokens. The values are stored in the database: never renumber."""

    NONE = 0
    OL = 1
    OB = 2
    LB = 4
    HB = 8
    RB = 16
    CHRG = 32
    DISCHRG = 64
    BYPASS = 128
    CAL = 256
    OFF = 512
    OVER = 1024
    TRIM = 2048
    BOOST = 4096
    FSD = 8192
    ALARM = 16384
    ECO = 32768


ORDER = (
    Status.ALARM, Status.OL, Status.OB, Status.DISCHRG, Status.CHRG, Status.LB, Status.HB, Status.OVER, Status.RB,
    Status.TRIM, Status.BOOST, Status.BYPASS, Status.ECO, Status.OFF, Status.CAL, Status.FSD,
)  # fmt: skip
"""Order in which the incumbent publishes tokens (engine.md section 7.1)."""

_NAMES: tuple[tuple[int, str], ...] = tuple((flag.value, flag.name or "") for flag in ORDER)
_TEXTS: dict[int, str] = {}


def status_text(status: int) -> str:
    """``ups.status`` as NUT clients read it, e.g. ``OL CHRG``."""
    bits = int(status)
    text = _TEXTS.get(bits)
    if text is None:
        text = _TEXTS[bits] = " ".join(name for bit, name in _NAMES if bits & bit)
    return text


SELFTEST_FAILED = "UPS selftest failed!"
SHUTDOWN_IMMINENT = "Shutdown imminent!"
REPLACE_BATTERY = "Replace battery!"
"""Alarm texts as NUT clients know them (engine.md section 7.1)."""

LINE = Status.OL | Status.OB
TRIM_BELOW, BYPASS_BELOW, REGULATION_FLOOR, REGULATION_CEILING = 0.95, 1.05, 0.50, 1.50
"""Output divided by input voltage decides what "bypass, boost or buck" means (megatec-family.md section 4.2)."""


def regulation(input_v: float | None, output_v: float | None) -> Status:
    """TRIM, BYPASS or BOOST from the two voltages of one frame; nothing where they can't tell."""
    if not input_v or not output_v or input_v < 0 or output_v < 0:
        return Status.NONE
    ratio = output_v / input_v
    if ratio < REGULATION_FLOOR or ratio >= REGULATION_CEILING:
        return Status.NONE
    if ratio < TRIM_BELOW:
        return Status.TRIM
    return Status.BYPASS if ratio < BYPASS_BELOW else Status.BOOST


def derive_status(
    bits: Mapping[str, bool], values: Mapping[str, float | str], before: int = 0, *, ignore_shutdown: bool = False
) -> tuple[int, tuple[str, ...]]:
    """Status flags and alarm texts of one frame, from that frame alone.

    ``bits`` holds the ``bit.*`` fields that were readable; one that is absent is unknown, which leaves OL/OB as it was
    in ``before`` and every other flag unset. No bit can fail a frame (megatec-family.md sections 4.1, 4.2 and 13).
    """
    status = 0
    alarms: tuple[str, ...] = ()
    fail = bits.get("bit.utility_fail")
    if fail is None:
        status |= before & 3
    else:
        status |= 2 if fail else 1
    if bits.get("bit.battery_low"):
        status |= 4
    if bits.get("bit.regulating") and not status & 2:
        input_v, output_v = values.get("input.voltage"), values.get("output.voltage")
        if isinstance(input_v, float) and isinstance(output_v, float):
            status |= regulation(input_v, output_v)
    if bits.get("bit.test"):
        status |= 256
    if bits.get("bit.failed"):
        alarms = (SELFTEST_FAILED,)
    if bits.get("bit.shutdown") and not ignore_shutdown:
        status |= 8192
        alarms = (*alarms, SHUTDOWN_IMMINENT)
    if alarms:
        status |= 16384
    return status, alarms
