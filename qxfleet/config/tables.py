"""One table of a file checked against its schema: every mistake found, the sound keys kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from qxfleet.config.device_values import device_setting_named
from qxfleet.config.findings import Findings, Place, did_you_mean, toml_text
from qxfleet.config.schema import (
    DEVICE_KEYS,
    LATER_TABLES,
    RENAMED,
    AgentTable,
    FleetTable,
    ProfileTable,
    RetentionTable,
    Table,
    UpsdTable,
    UpsTable,
)
from qxfleet.config.schema_batteries import BatteryTable
from qxfleet.config.schema_faces import HttpTable, MetricsTable, NutTable, UserTable
from qxfleet.config.schema_shutdown import LoadTable, ShutdownTable
from qxfleet.config.schema_tests import ScheduleTable, TestsTable

T = TypeVar("T", bound=Table)

HEADERS: dict[type[Table], str] = {
    AgentTable: "[agent]",
    FleetTable: "[fleet]",
    UpsTable: "[[ups]]",
    UpsdTable: "[[upsd]]",
    ProfileTable: "[[profile]]",
    HttpTable: "[http]",
    NutTable: "[nut]",
    MetricsTable: "[metrics]",
    UserTable: "[[user]]",
    ScheduleTable: "[[schedule]]",
    TestsTable: "[tests]",
    LoadTable: "[[load]]",
    ShutdownTable: "[shutdown]",
    RetentionTable: "[retention]",
    BatteryTable: "[[battery]]",
}

_NAMES = tuple(header.strip("[]") for header in HEADERS.values())


def read_table(model: type[T], table: Mapping[str, object], at: Place, findings: Findings) -> tuple[T, frozenset[str]]:
    """The table with its sound keys, and the keys that were not sound and hold their defaults instead."""
    try:
        return model.model_validate(table), frozenset()
    except ValidationError as error:
        details = error.errors(include_url=False)
    broken = frozenset(str(detail["loc"][0]) for detail in details)
    for detail in details:
        findings.problem(at.at(*detail["loc"]), _words(model, detail))
    return model.model_validate({key: value for key, value in table.items() if key not in broken}), broken


def _words(model: type[Table], detail: ErrorDetails) -> str:
    """What was wrong, what was expected, what to do."""
    found = toml_text(detail["input"])
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return unknown_setting(model, str(detail["loc"][-1]))
        case "value_error":
            return str(context["error"])
        case "string_type":
            return f"expected text in quotes, found {found}"
        case "bool_type":
            return f"expected true or false, found {found}{_flag(detail['input'])}"
        case "float_type":
            bare = str(detail["input"]).strip()
            remedy = f": write {bare}" if bare.replace(".", "", 1).isdecimal() else ""
            return f"expected a number, found {found}{remedy}"
        case "dict_type":
            return f"expected a table, as in {_form(model, str(detail['loc'][-1]))}, found {found}"
        case "tuple_type":
            remedy = f": write [{found}]" if isinstance(detail["input"], str) else ""
            return f"expected a list of texts, found {found}{remedy}"
        case "literal_error":
            guess = did_you_mean(detail["input"], _choices(detail)) if isinstance(detail["input"], str) else ""
            return f"expected {str(context['expected']).replace(chr(39), chr(34))}, found {found}{guess}"
        case "greater_than":
            return f"expected a number above {context['gt']:g}, found {found}"
        case "greater_than_equal":
            return f"expected at least {context['ge']:g}, found {found}"
        case "less_than_equal":
            return f"expected at most {context['le']:g}, found {found}"
        case _:
            return f"{detail['msg']}, found {found}"


def _form(model: type[Table], key: str) -> str:
    """What a key that holds a table may hold."""
    extra = model.model_fields[key].json_schema_extra if key in model.model_fields else None
    form = extra["form"] if isinstance(extra, dict) and model is not ProfileTable else ""
    return str(form) or '{ eco_mode = "disabled" }'


def _flag(value: object) -> str:
    """The remedy for a flag written as another language would."""
    word = str(value).lower()
    if word in ("yes", "on", "1", "true", "enabled"):
        return ": write true"
    return ": write false" if word in ("no", "off", "0", "false", "disabled") else ""


def _choices(detail: ErrorDetails) -> Iterable[str]:
    return str(detail.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")


def unknown_setting(model: type[Table], key: str) -> str:
    """What to do about a key the table does not know."""
    if model is UpsTable:
        if key in RENAMED:
            return f"unknown setting: {RENAMED[key]}"
        if device_setting_named(key) is not None:
            return "is set on the running device: write it into the settings of a [[profile]], or use `qxfleet set`"
    ordered: tuple[type[Table], ...] = (UpsTable, *HEADERS)
    for other in ordered:
        if key in other.model_fields:
            where = ", below settings" if model is ProfileTable and other is UpsTable and key in DEVICE_KEYS else ""
            return f"unknown setting here, it belongs in {HEADERS[ProfileTable if where else other]}{where}"
    return f"unknown setting{did_you_mean(key, model.model_fields) or _ALL_SHOWN}"


def unknown_table(key: str, value: object) -> str:
    """What to do about a name at the top of a file that is no table of ours."""
    for model, header in HEADERS.items():
        if key in model.model_fields and not isinstance(value, dict):
            return f"unknown setting outside any table: write it below {header}"
    what = "table" if isinstance(value, dict | list) else "setting"
    return f"unknown {what}{did_you_mean(key, (*_NAMES, *LATER_TABLES)) or _ALL_SHOWN}"


def later_table(key: str) -> str:
    """What to do about a table that a later version brings."""
    return f"this version of qxfleet has no {LATER_TABLES[key]} yet: remove the table for now"


_ALL_SHOWN = '; "qxfleet check --defaults" shows all there are'
