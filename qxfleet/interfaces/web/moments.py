"""Points in time and lengths of time in a query, as people and programs write them."""

from __future__ import annotations

from datetime import UTC, datetime

from qxfleet.config.durations import parse_duration
from qxfleet.interfaces.web.problems import Problem


def moment_us(text: str | None, name: str, now_us: int) -> int | None:
    """Wall time in microseconds of ISO 8601 (UTC without a zone), or of how long ago (``30d``). Raises Problem 422."""
    if text is None:
        return None
    try:
        return now_us - round(parse_duration(text) * 1_000_000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        raise _unreadable(name, text, "how long ago (30d, 12h, 5m) or ISO 8601 (2026-05-01T12:00:00Z)") from None


def length_s(text: str | None, name: str) -> float | None:
    """Seconds of a duration with its unit (``5m``). Raises Problem 422."""
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise _unreadable(name, text, "a duration (30s, 5m, 1d)") from None
    if seconds <= 0:
        raise _unreadable(name, text, "a duration longer than nothing")
    return seconds


def _unreadable(name: str, text: str, expected: str) -> Problem:
    detail = f"expected {expected}, found {text[:100]!r}"
    return Problem(422, "unreadable", f"query.{name}: {detail}", {"errors": [{"where": f"query.{name}", "detail": detail}]})
