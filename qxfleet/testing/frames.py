"""Status frames that no template can write: bytes (extra-dialects.md section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qxfleet.testing.machine import Machine

ESCAPES = {0x0D: b"(\0", 0x11: b"(\1", 0x13: b"(\2", 0x0A: b"(\3", 0x20: b"(\4"}
"""Bytes that are never sent as they are."""

VOLTS_PER, HERTZ_PER = 53, 24960
"""The unit's own factors C and F, and HI: what the samples of the reference have."""


def _word(number: float, width: int) -> bytes:
    return b"".join(ESCAPES.get(byte, bytes((byte,))) for byte in round(number).to_bytes(width, "big"))


def qs_hex(machine: Machine, bits: str) -> bytes:
    """The status of a voltronic-qs-hex unit of variant T: ten words and one of ratings."""
    ratings = machine.ratings
    cells = round(30 * ratings.battery_v / 12)
    volts = [0, 110, 120, 220, 230, 240].index(round(ratings.volts)) - 1 if ratings.volts in (110, 120, 220, 230, 240) else 7
    nominal = (128 if ratings.hertz == 60 else 0) | {12: 0, 24: 32, 36: 64, 48: 96}.get(round(ratings.battery_v), 0) | volts
    words = (
        (machine.input_v * 256 * 51 / VOLTS_PER, 2), (VOLTS_PER, 1), (machine.output_v * 256 * 51 / VOLTS_PER, 2), (VOLTS_PER, 1),
        (min(255, machine.load_now), 1), (HERTZ_PER, 2), (machine.output_hertz * HERTZ_PER, 3),
        (min(255, machine.battery.volts * 510 / cells), 1), (cells, 1), (int(bits, 2), 1), (nominal, 1),
    )  # fmt: skip
    return b"#" + b" ".join(_word(number, width) for number, width in words) + b"\r"


FRAMES: Mapping[str, Callable[[Machine, str], bytes]] = {"voltronic-qs-hex": qs_hex}
"""Dialect → its status frame."""
