"""Reports that a schedule writes to a file: results of battery tests, or how the fleet stands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from qxfleet.model.clock import iso
from qxfleet.model.state import DeviceState
from qxfleet.model.status import status_text
from qxfleet.store.tests import StoredTest

FIGURES = ("ups.load", "battery.charge", "battery.runtime", "battery.voltage")


def document(test: StoredTest) -> dict[str, Any]:
    """One battery test as every face shows it; what is not known is null."""
    return {
        "id": test.id, "ups": test.ups, "test": str(test.asked), "kind": test.asked.kind, "for_s": test.asked.for_s,
        "depth_percent": test.asked.depth_percent, "started": iso(test.started_us),
        "ended": None if test.ended_us is None else iso(test.ended_us),
        "verdict": None if test.verdict is None else test.verdict.value, "text": test.text, "actor": test.actor,
        "schedule": test.schedule or None, "wave": test.wave_id, "evidence": dict(test.evidence),
    }  # fmt: skip


def write_report(
    file: Path, report: Literal["tests", "fleet"], now_us: int, tests: Sequence[StoredTest], states: Mapping[str, DeviceState]
) -> None:
    """Write a report in place of the one before, whole or not at all. Raises OSError."""
    rows = [document(test) for test in tests] if report == "tests" else [_standing(state) for state in states.values()]
    if file.suffix == ".json":
        text = json.dumps({"time": iso(now_us), "report": report, report: rows}, indent=2) + "\n"
    elif report == "tests":
        text = _table(now_us, ("ended", "ups", "test", "verdict", "text"), rows)
    else:
        text = _table(now_us, ("ups", "state", "status", *FIGURES), rows)
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(text)
    fresh.replace(file)


def _standing(state: DeviceState) -> dict[str, Any]:
    values = state.reading.values if state.reading is not None else {}
    figures = {name: values.get(name) for name in FIGURES}
    return {"ups": state.name, "state": state.link.value, "status": status_text(state.status), **figures}


def _table(now_us: int, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(column), *(len(row[number]) for row in cells)) if cells else len(column)
              for number, column in enumerate(columns)]  # fmt: skip
    lines = [tuple(columns), *cells]
    body = "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return f"qxfleet, {iso(now_us)}\n\n{body}\n"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
