"""Every key with its default, form, range and meaning, made from the schema itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic.fields import FieldInfo

from qxfleet.config.durations import duration_text
from qxfleet.config.findings import toml_text
from qxfleet.config.forms import Duration, Form, Keep
from qxfleet.config.presets import KINDS
from qxfleet.config.schema import AgentTable, FleetTable, ProfileTable, RetentionTable, Table, UpsdTable, UpsTable
from qxfleet.config.schema_batteries import BatteryTable
from qxfleet.config.schema_faces import HttpTable, MetricsTable, NutTable, UserTable
from qxfleet.config.schema_shutdown import LoadTable, ShutdownTable
from qxfleet.config.schema_tests import ScheduleTable, TestsTable

TABLES: tuple[tuple[str, type[Table]], ...] = (
    ("[agent]", AgentTable), ("[fleet]", FleetTable), ("[[ups]]", UpsTable), ("[[upsd]]", UpsdTable),
    ("[[profile]]", ProfileTable), ("[http]", HttpTable), ("[nut]", NutTable), ("[metrics]", MetricsTable),
    ("[[user]]", UserTable), ("[[schedule]]", ScheduleTable), ("[tests]", TestsTable),
    ("[[load]]", LoadTable), ("[shutdown]", ShutdownTable), ("[retention]", RetentionTable), ("[[battery]]", BatteryTable),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One key as it is shown. ``default`` is written as in the file."""

    key: str
    default: str
    form: str
    meaning: str


def rows(model: type[Table]) -> Iterator[Row]:
    """The keys of a table in their order."""
    for key, info in model.model_fields.items():
        instead: dict[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        yield Row(
            key=f"{key}.*" if key in KINDS else info.alias or key,
            default=instead["shown"] or _default(info),
            form=instead["form"] or _form(info),
            meaning=info.description or "",
        )


def defaults_text() -> str:
    """Every table and key in aligned columns."""
    lines: list[str] = []
    for header, model in TABLES:
        table = list(rows(model))
        key_width = max(len(row.key) for row in table)
        default_width = max(len(row.default) for row in table)
        lines += [header]
        for row in table:
            lines.append(f"  {row.key:<{key_width}}  = {row.default:<{default_width}}  # {row.meaning}")
            lines.append(f"  {'':<{key_width}}    {'':<{default_width}}  #   {row.form}")
        lines.append("")
    return "\n".join(lines)


def option_reference() -> str:
    """The same as Markdown, one table per TOML table, for the documentation."""
    parts: list[str] = []
    for header, model in TABLES:
        parts += [f"### `{header}`", "", (model.__doc__ or "").strip(), ""]
        parts += ["| key | default | form and range | meaning |", "| --- | --- | --- | --- |"]
        parts += [
            f"| `{row.key}` | {_code(row.default)} | {_cell(row.form)} | {_cell(row.meaning)} |" for row in rows(model)
        ]
        parts.append("")
    return "\n".join(parts)


def _default(info: FieldInfo) -> str:
    if any(isinstance(item, Keep) for item in info.metadata):
        return toml_text(Keep.text(info.default))
    if any(isinstance(item, Duration) for item in info.metadata):
        return toml_text(duration_text(info.default))
    return f"{info.default:g}" if type(info.default) is float else toml_text(info.default)


def _form(info: FieldInfo) -> str:
    for item in info.metadata:
        if isinstance(item, Form):
            return item.words
    if info.annotation is bool:
        return "true or false"
    choices = _choices(info.annotation)
    if choices:
        return " or ".join(", ".join(f'"{choice}"' for choice in choices).rsplit(", ", 1))
    low = next((item.gt for item in info.metadata if hasattr(item, "gt")), None)
    high = next((item.le for item in info.metadata if hasattr(item, "le")), None)
    return "text" if low is None else f"number above {low} up to {high}"


def _choices(annotation: Any) -> list[str]:
    """The words of a Literal, also inside an optional."""
    return [word for part in get_args(annotation) for word in ([part] if isinstance(part, str) else _choices(part))]


def _code(default: str) -> str:
    plain = default.startswith(('"', "[")) or default in ("true", "false") or default.replace(".", "").isdigit()
    return f"`{default}`" if plain else _cell(default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
