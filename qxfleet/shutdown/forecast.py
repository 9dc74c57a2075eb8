"""How long batteries last, from what their own discharges taught; read from the store now and then, asked at every reading."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from qxfleet.battery.runtime import predicted_runtime
from qxfleet.model.discharge import Discharge
from qxfleet.store import batteries
from qxfleet.store.store import Store


class Forecast:
    """Knows the discharges of the battery that is in each UPS."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Discharge]] = {}

    async def refresh(self, store: Store, upses: Collection[str]) -> None:
        """Read what the store knows of these UPSes' batteries."""

        def query(connection: Connection) -> dict[str, list[Discharge]]:
            return {ups: found for ups in upses if (found := batteries.of_current_battery(connection, ups))}

        self._runs = await store.read(query)

    def __call__(self, ups: str, load_percent: float | None, charge: float | None) -> tuple[float | None, float | None]:
        """Seconds until the battery is low at this load and charge: likely, and at worst; None where nothing is known."""
        runs = self._runs.get(ups)
        band = predicted_runtime(runs, load_percent, charge) if runs and load_percent and charge else None
        return (None, None) if band is None else (band.likely_s, band.low_s)
