"""Grafana's dashboards in ``contrib/grafana``, from one table of panels: ``python scripts/dashboards.py`` writes them anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "contrib" / "grafana"

SOURCE = {"type": "prometheus", "uid": "${source}"}
NUT = "network_ups_tools"
ON_BATTERY = f'{NUT}_ups_status{{flag="OB", ups=~"$ups"}}'


@dataclass(frozen=True)
class Panel:
    """One panel: its title, what draws it, its queries with their legends, its unit, and how wide it is (of 24)."""

    title: str
    kind: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "none"
    width: int = 12
    height: int = 8


def one(
    title: str, query: str, unit: str = "none", *, kind: str = "stat", width: int = 4, height: int = 4, legend: str = ""
) -> Panel:
    """A panel with one query."""
    return Panel(title, kind, ((query, legend),), unit, width, height)


def graph(title: str, query: str, unit: str, legend: str = "{{ups}}") -> Panel:
    """A panel over time."""
    return Panel(title, "timeseries", ((query, legend),), unit)


DASHBOARDS: dict[str, tuple[str, bool, Sequence[Panel]]] = {
    "fleet": ("qxfleet: fleet", False, (
        one("UPSes", "count(qxfleet_ups_info)"),
        one("Out of contact", 'count(qxfleet_ups_state{state="online"} == 0) or vector(0)'),
        one("On battery", f'count({NUT}_ups_status{{flag="OB"}} == 1) or vector(0)'),
        one("Low battery", f'count({NUT}_ups_status{{flag="LB"}} == 1) or vector(0)'),
        one("Batteries to replace", 'count(qxfleet_battery_verdict{verdict=~"replace now|replace soon"} == 1) or vector(0)'),
        one("Plan armed", "max(qxfleet_plan_armed)"),
        graph("Load", f"{NUT}_ups_load", "percent"),
        graph("Battery charge", f"{NUT}_battery_charge", "percent"),
        graph("Input voltage", f"{NUT}_input_voltage", "volt"),
        graph("Temperature", f"{NUT}_ups_temperature", "celsius"),
        graph("Power", f"{NUT}_ups_realpower", "watt"),
        graph("Outages, seconds an hour", "increase(qxfleet_outage_seconds_total[1h])", "s"),
        graph("Polls missed a second", "rate(qxfleet_missed_polls_total[5m])", "cps"),
        graph("Polls late, 99th percentile",
              "histogram_quantile(0.99, sum by (le) (rate(qxfleet_poll_lateness_seconds_bucket[5m])))", "s",
              "p99"),
    )),
    "ups": ("qxfleet: one UPS", True, (
        one("On battery", ON_BATTERY),
        one("Contact", 'qxfleet_ups_state{state="online", ups=~"$ups"}'),
        one("Charge", f'{NUT}_battery_charge{{ups=~"$ups"}}', "percent"),
        one("Runtime", f'{NUT}_battery_runtime{{ups=~"$ups"}}', "s"),
        one("Load", f'{NUT}_ups_load{{ups=~"$ups"}}', "percent"),
        one("Last good reading", 'time() - qxfleet_last_success_timestamp_seconds{ups=~"$ups"}', "s"),
        Panel("Voltages", "timeseries", (
            (f'{NUT}_input_voltage{{ups=~"$ups"}}', "input {{ups}}"), (f'{NUT}_output_voltage{{ups=~"$ups"}}', "output {{ups}}"),
        ), "volt"),
        graph("Frequency", f'{NUT}_input_frequency{{ups=~"$ups"}}', "hertz"),
        graph("Load", f'{NUT}_ups_load{{ups=~"$ups"}}', "percent"),
        graph("Battery voltage", f'{NUT}_battery_voltage{{ups=~"$ups"}}', "volt"),
        graph("Temperature", f'{NUT}_ups_temperature{{ups=~"$ups"}}', "celsius"),
        graph("Status", f'{NUT}_ups_status{{flag=~"OB|LB|BYPASS|OVER|BOOST|TRIM|CAL", ups=~"$ups"}}', "none", "{{flag}} {{ups}}"),
    )),
    "batteries": ("qxfleet: batteries", True, (
        one("To replace", 'count(qxfleet_battery_verdict{verdict=~"replace now|replace soon"} == 1) or vector(0)', width=6),
        one("Failed their last test", 'count(qxfleet_battery_test_result{result="failed"} == 1) or vector(0)', width=6),
        one("Oldest test", "max(time() - qxfleet_battery_test_last_timestamp_seconds)", "s", width=6),
        one("Next replacement in", "min(qxfleet_battery_replace_by_timestamp_seconds) - time()", "s", width=6),
        Panel("Health", "timeseries", (
            ('qxfleet_battery_soh_ratio{ups=~"$ups"}', "{{ups}}"),
            ('qxfleet_battery_soh_low_ratio{ups=~"$ups"}', "{{ups}}, at least"),
        ), "percentunit", 24),
        Panel("Replace by", "table", (('qxfleet_battery_replace_by_timestamp_seconds{ups=~"$ups"} * 1000', "{{ups}}"),),
              "dateTimeAsIso"),
        Panel("Last test", "table", (('qxfleet_battery_test_last_timestamp_seconds{ups=~"$ups"} * 1000', "{{ups}}"),),
              "dateTimeAsIso"),
        Panel("Results", "table", (('qxfleet_battery_test_result{ups=~"$ups"} == 1', "{{ups}} {{result}}"),)),
        graph("Charge", f'{NUT}_battery_charge{{ups=~"$ups"}}', "percent"),
    )),
    "shutdown": ("qxfleet: shutdown", False, (
        one("Armed", "max(qxfleet_plan_armed)", width=6),
        one("Under way", "max(qxfleet_plan_running)", width=6),
        one("Loads down", 'sum(qxfleet_plan_stage{phase="down"}) or vector(0)', width=6),
        one("Loads that need somebody", 'sum(qxfleet_plan_stage{phase=~"stuck|stranded|not-seen-off"}) or vector(0)', width=6),
        Panel("Loads by phase", "timeseries", (("sum by (phase) (qxfleet_plan_stage)", "{{phase}}"),), "none", 24),
        graph("Runtime on battery", f'{NUT}_battery_runtime and on (ups) {NUT}_ups_status{{flag="OB"}} == 1', "s"),
        graph("Charge on battery", f'{NUT}_battery_charge and on (ups) {NUT}_ups_status{{flag="OB"}} == 1', "percent"),
        graph("On battery", f'sum({NUT}_ups_status{{flag="OB"}})', "none", "UPSes"),
        graph("Forced shutdown told", f'{NUT}_ups_status{{flag="FSD"}}', "none"),
    )),
}  # fmt: skip


def dashboard(name: str) -> dict[str, Any]:
    """The JSON model of one dashboard (Grafana's documentation, "Dashboard JSON model")."""
    title, by_ups, panels = DASHBOARDS[name]
    variables: list[dict[str, Any]] = [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
    if by_ups:
        variables.append({
            "name": "ups", "type": "query", "label": "UPS", "datasource": SOURCE, "multi": True, "includeAll": True, "refresh": 2,
            "query": {"query": "label_values(qxfleet_ups_info, ups)", "refId": "ups"},
            "definition": "label_values(qxfleet_ups_info, ups)",
            "current": {"text": "All", "value": "$__all"},
        })  # fmt: skip
    made, x, y, tall = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > 24:
            x, y, tall = 0, y + tall, 0
        made.append({
            "id": number, "title": panel.title, "type": panel.kind, "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
            "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
            "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if panel.kind == "stat" else {},
            "targets": [
                {"refId": chr(65 + n), "expr": query, "legendFormat": legend, "datasource": SOURCE,
                 "instant": panel.kind == "table", "format": "table" if panel.kind == "table" else "time_series"}
                for n, (query, legend) in enumerate(panel.queries)
            ],
        })  # fmt: skip
        x, tall = x + panel.width, max(tall, panel.height)
    return {
        "uid": f"qxfleet-{name}", "title": title, "tags": ["qxfleet", "ups"], "timezone": "browser",
        "schemaVersion": 39, "version": 1,
        "refresh": "30s", "time": {"from": "now-24h", "to": "now"}, "templating": {"list": variables}, "panels": made,
    }  # fmt: skip


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(json.dumps(dashboard(name), indent=1) + "\n")


if __name__ == "__main__":
    main()
