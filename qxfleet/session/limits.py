"""Bounds of what a device keeps, computed from what it said of itself (voltronic.md section 9.1). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from qxfleet.dialects.spec import DeviceSetting, Dialect
from qxfleet.model.reading import Value


def limits_of(setting: DeviceSetting, told: Mapping[str, Value | bool]) -> tuple[float, float] | None:
    """Lowest and highest value in the setting's unit; None where they are not known."""
    found = bounds_of(setting, told)
    return found[:2] if found is not None else None


def bounds_of(setting: DeviceSetting, told: Mapping[str, Value | bool]) -> tuple[float, float, float] | None:
    """The same, and the step between."""
    for limit in setting.limits:
        if not all(holds.of(told) for holds in limit.when):
            continue
        gauges = [told.get(name) for name in limit.gauge]
        base = told.get(limit.base) if limit.base else 0.0
        if not isinstance(base, float) or not all(isinstance(gauge, float) for gauge in gauges):
            continue
        size = math.prod(math.floor(gauge) for gauge in gauges if isinstance(gauge, float))
        if not limit.gauge or limit.at_least <= size < limit.below:
            return base + limit.low, base + limit.high, limit.step or setting.step
    return None


def shown_limits(dialect: Dialect, told: Mapping[str, Value | bool]) -> dict[str, Value]:
    """The ``.min`` and ``.max`` variables of settings that the device has told and whose limits are known."""
    shown: dict[str, Value] = {}
    for setting in dialect.device_settings:
        if setting.shows_limits and setting.name in told and (limits := limits_of(setting, told)) is not None:
            shown[f"{setting.name}.min"], shown[f"{setting.name}.max"] = limits
    return shown
