"""Points in time and lengths of time in a query, as people and programs write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from qxfleet.config.durations import parse_duration

LENGTH = "^[1-9][0-9]{0,3}(s|m|min|h|d)$"
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""What every database can compare with; whatever is further away means the same."""


def _moment(text: str) -> str:
    moment_us(text, 0)
    return text


def _length(text: str) -> str:
    if parse_duration(text) < 1 or parse_duration(text) % 1:
        raise ValueError("expected whole seconds, and one at least")
    return text


def moment_us(text: str, now_us: int) -> int:
    """Wall time in microseconds of ISO 8601 (UTC without a zone), or of how long ago (``30d``). Raises ValueError."""
    try:
        return max(0, now_us - round(parse_duration(text) * 1_000_000))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("expected how long ago (30d, 12h, 5m) or ISO 8601 (2026-05-01T12:00:00Z)") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(min(max(moment, EARLIEST), LATEST).timestamp() * 1_000_000)


def length_s(text: str) -> int:
    """Seconds of a duration with its unit (``5m``). Raises ValueError."""
    return int(parse_duration(text))


Moment = Annotated[
    str,
    AfterValidator(_moment),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": LENGTH}]}),
]
"""ISO 8601, or how long ago."""

Length = Annotated[str, AfterValidator(_length), WithJsonSchema({"type": "string", "pattern": LENGTH})]
"""A duration with its unit."""
