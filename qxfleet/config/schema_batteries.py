"""The table of batteries and its keys."""

from __future__ import annotations

import datetime
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from qxfleet.config import targets
from qxfleet.config.findings import toml_text
from qxfleet.config.forms import Form
from qxfleet.config.schema import NEEDED, Table, _key
from qxfleet.model.battery_facts import BatteryFacts

_FACTS = BatteryFacts()


class Day(Form):
    """A day, as microseconds of its beginning in UTC."""

    words = "day, as in 2024-05-01"

    def read(self, value: object) -> int:
        """Microseconds since 1970."""
        day: datetime.date | None = None
        if isinstance(value, str):
            try:
                day = datetime.date.fromisoformat(value)
            except ValueError:
                day = None
        elif isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
            day = value
        if day is None or day.year < 1990:
            raise ValueError(f"expected a {self.words}, found {toml_text(value)}")
        return round(datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp()) * 1_000_000


class Runtimes(Form):
    """A new battery's runtimes by load."""

    words = "list of [load in percent, seconds], falling with the load, as in [[50, 900], [100, 360]]"

    def read(self, value: object) -> tuple[tuple[float, float], ...]:
        """Pairs in order of load."""
        wrong = ValueError(f"expected a {self.words}, found {toml_text(value)}")
        if not isinstance(value, list) or not value:
            raise wrong
        pairs: list[tuple[float, float]] = []
        for item in value:
            if not isinstance(item, list) or len(item) != 2 or not all(_number(part) for part in item):
                raise wrong
            pairs.append((float(item[0]), float(item[1])))
        pairs.sort()
        falling = all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(pairs))
        if not falling or not all(0 < load <= 150 and 10 <= seconds <= 864_000 for load, seconds in pairs):
            raise wrong
        return tuple(pairs)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class BatteryTable(Table):
    """What is known of the batteries of some UPSes; each UPS in one such table at most, in any file."""

    targets: Annotated[tuple[str, ...], Field(strict=False)] = _key(
        (), "the UPSes that have such a battery", shown=NEEDED, form=targets.WORDS
    )
    type: str = _key("", "maker and type, as printed on it: like is compared with like", shown="not known")
    chemistry: Literal["lead-acid", "lifepo4", "li-ion", "nicd"] = _key(
        "lead-acid", "methods that read its voltage are for lead-acid only"
    )
    cells: Annotated[int | None, Field(gt=0, le=400)] = _key(
        None, "cells in series: six in every 12 V block", shown="half the nominal voltage", form="whole number above 0 up to 400"
    )
    capacity: Annotated[float | None, Field(gt=0, le=10_000)] = _key(None, "rated ampere-hours", shown="not known")
    installed: Annotated[int | None, Day()] = _key(
        None, "when it was put in; a later day than the register has means another battery", shown="not known"
    )
    made: Annotated[int | None, Day()] = _key(None, "date of manufacture", shown="not known")
    design_life: Annotated[float, Field(gt=0, le=30)] = _key(_FACTS.design_life_years, "years at 25 °C that the maker promises")
    runtimes: Annotated[tuple[tuple[float, float], ...], Runtimes()] = _key(
        (), "seconds to the low-battery flag of a new battery, by load: the maker's table, where there was no test when new",
        shown="by the first runs",
    )  # fmt: skip
    assumed_load: Annotated[float | None, Field(gt=0, le=150)] = _key(
        None, "load in percent for a UPS whose reading is frozen, as measured with a meter", shown="as the UPS tells"
    )
    rated_power: Annotated[float | None, Field(gt=0, le=10_000_000)] = _key(
        None, "watts at 100 % load", shown="from the rating of the UPS"
    )
    efficiency: Annotated[float, Field(gt=0, le=1)] = _key(_FACTS.efficiency, "of the inverter")
    idle_power: Annotated[float, Field(ge=0, le=10_000)] = _key(
        _FACTS.idle_w, "watts the UPS draws for itself on battery", form="number from 0 up to 10000"
    )
    temperature_offset: Annotated[float, Field(ge=-40, le=40)] = _key(
        0.0, "degrees that the battery is warmer than the UPS tells", form="number from -40 up to 40"
    )
    ageing_doubles: Annotated[float, Field(gt=0, le=20)] = _key(
        _FACTS.ageing_doubles_k, "degrees by which a battery must be warmer to age twice as fast"
    )
    learned_runtime: bool = _key(True, "battery.runtime from the UPS's own discharges, where it tells none; marked as estimated")
