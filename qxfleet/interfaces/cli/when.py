"""Points in time as people type them: ISO 8601, or how long ago."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from qxfleet.config.durations import parse_duration


def since_us(text: str, now_us: int, option: str = "--since") -> int:
    """Wall time in microseconds of ``2026-05-01``, ``2026-05-01T12:00Z`` or ``30d``; a time without zone is UTC.

    Raises BadParameter with what was expected.
    """
    try:
        return now_us - round(parse_duration(text) * 1_000_000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        expected = "expected how long ago (30d, 12h, 5m) or ISO 8601 (2026-05-01T12:00Z)"
        raise typer.BadParameter(f"{text!r}: {expected}", param_hint=f"'{option}'") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000)
