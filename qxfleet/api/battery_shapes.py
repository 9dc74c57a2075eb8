"""Batteries and discharges as documents and as sentences: what every face that shows them says."""

from __future__ import annotations

from qxfleet.api import responses
from qxfleet.battery.health import Health
from qxfleet.battery.runtime import RuntimeBand
from qxfleet.model.clock import from_us, iso
from qxfleet.model.discharge import Discharge, Sample
from qxfleet.store.batteries import Capacity, Placement, Rest


def battery_document(health: Health) -> responses.Battery:
    """One battery of ``battery --json``; null is "insufficient"."""
    known = health.evidence
    return {
        "ups": known.ups,
        "health_percent": health.percent,
        "trend_percent_per_year": health.per_year,
        "replace_by": _iso(health.by_us),
        "replace_by_low": _iso(health.low_us),
        "replace_by_high": _iso(health.high_us),
        "confidence": health.confidence,
        "evidence": {
            "verdict": health.verdict.value,
            "reasons": list(health.reasons),
            "next_step": health.next_step,
            "data_problems": list(health.data),
            "health_error": health.error,
            "replace_by_basis": health.basis,
            "battery": known.battery,
            "type": known.facts.type or None,
            "chemistry": known.facts.chemistry,
            "cells": known.cells,
            "capacity_ah": known.facts.capacity_ah,
            "installed": _iso(known.facts.installed_us),
            "capacities": [_capacity(each) for each in health.used],
            "loaded_voltage_per_cell": [each.index_v for each in known.recent],
            "resistance_ratio": next((each.resistance_ratio for each in reversed(known.recent) if each.resistance_ratio), None),
            "rest": _rest(known.rest),
        },
    }


def _capacity(each: Capacity) -> responses.CapacityShape:
    return {"time": iso(each.at_us), "percent": each.percent, "error": each.error, "method": each.method.value}


def _rest(rest: Rest | None) -> responses.Rest | None:
    if rest is None:
        return None
    return {
        "days": _rounded(rest.days), "ageing": _rounded(rest.ageing), "temperature": _rounded(rest.temperature_c),
        "float_voltage": _rounded(rest.float_v), "load": _rounded(rest.load_percent),
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def discharge_document(each: Discharge) -> responses.DischargeShape:
    """One discharge of ``outages --json``."""
    return {
        "ups": each.ups,
        "begin": iso(each.began_us),
        "end": _iso(each.ended_us),
        "seconds": each.lasted_s,
        "cause": each.cause.value,
        "depth_percent": each.depth_percent,
        "used_percent": each.score.used_percent,
        "voltage_before": each.float_v,
        "voltage_lowest": each.lowest_v,
        "load_percent": each.load_percent,
        "energy_wh": each.energy_wh,
        "low_battery_after_s": each.low_after_s,
        "recharge_s": each.recharge_s,
        "capacity_percent": each.score.capacity_percent,
        "test": each.test_id,
        "id": each.id,
    }


def sample_document(each: Sample) -> responses.SampleShape:
    """One point of a curve."""
    return {
        "time": iso(each.at_us), "battery_voltage": each.battery_v, "load_percent": each.load_percent,
        "charge_percent": each.charge_percent, "input_voltage": each.input_v, "temperature": each.temperature_c,
    }  # fmt: skip


def placement_document(place: Placement) -> responses.Placement:
    """One line of ``battery list --json``."""
    row = place.battery
    return {
        "battery": row.name, "ups": place.ups, "since": iso(place.since_us), "until": _iso(place.until_us), "known": place.known,
        "type": row.type or None, "chemistry": row.chemistry, "cells": row.cells, "capacity_ah": row.capacity_ah,
        "made": _iso(row.made_us), "note": row.note or None,
    }  # fmt: skip


def band_document(band: RuntimeBand | None) -> dict[str, int] | None:
    """A predicted runtime; null where nothing supports one."""
    return None if band is None else {name: round(value) for name, value in band._asdict().items()}


def day(at_us: int | None) -> str:
    """A date, or a dash."""
    return "-" if at_us is None else from_us(at_us).date().isoformat()


def span(seconds: float | None) -> str:
    """A length of time as people say it."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def figure(value: float | None, unit: str = "", digits: int = 0) -> str:
    """A number with its unit, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}{' ' + unit if unit else ''}"


def _iso(at_us: int | None) -> str | None:
    return None if at_us is None else iso(at_us)
