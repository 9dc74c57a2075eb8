"""The metric families: ``network_ups_tools_*`` as nut_exporter gives them, and ``qxfleet_*`` of our own, made of one view.

nut_exporter's rules (its README and collector): a variable's name with ``.`` and ``-`` as ``_`` behind ``network_ups_tools_``;
words for on and off become 1 and 0, other text is left out; one ``ups_status`` series per flag; what text there is to show stands
in the labels of ``device_info``. A UPS that is out of contact has no values, as ``upsd`` gives none (DATA-STALE).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qxfleet import __version__
from qxfleet.agent.agent import Health as AgentHealth
from qxfleet.battery.health import Health
from qxfleet.battery.health import Verdict as BatteryVerdict
from qxfleet.battery.posterior import Z
from qxfleet.model.events import Link
from qxfleet.model.options import UpsOptions
from qxfleet.model.selftest import Verdict as TestVerdict
from qxfleet.model.state import DeviceState
from qxfleet.model.status import Status, status_text
from qxfleet.model.variables import VARIABLES
from qxfleet.store.fleet_view import StoredAgent, StoredUps
from qxfleet.store.shipper import ShipperHealth
from qxfleet.store.tests import StoredTest
from qxfleet.store.writer import StoreHealth

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PREFIX = "network_ups_tools_"

ALWAYS = ("OL", "OB", "LB", "HB", "RB", "CHRG", "DISCHRG", "BYPASS", "CAL", "OFF", "OVER", "TRIM", "BOOST", "FSD", "SD")
"""Flags that have a series whether they are up or not: nut_exporter's default list."""

INFO = ("model", "mfr", "serial", "type", "description", "contact", "location", "part", "macaddr")
"""Labels of ``device_info``, from ``device.*``."""

WORDS = {
    **dict.fromkeys(("enable", "enabled", "on", "true", "active", "activated"), 1.0),
    **dict.fromkeys(("disable", "disabled", "off", "false", "inactive", "deactivated"), 0.0),
}
"""Text that is a number to nut_exporter."""

LATENESS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 999)
"""Bounds of the histogram of poll lateness."""


@dataclass(frozen=True, slots=True)
class View:
    """What one scrape shows, taken on the loop in one go and written out on a thread."""

    agent: str
    states: Mapping[str, DeviceState]
    options: Mapping[str, UpsOptions]
    polls: Mapping[str, tuple[int, int]]
    """UPS → good polls, missed ones."""
    health: AgentHealth
    store: StoreHealth
    lateness: tuple[int, ...]
    outage_s: Mapping[str, float]
    batteries: Sequence[Health]
    tests: Sequence[StoredTest]
    """The last of every UPS."""
    plan: tuple[bool, bool, Mapping[str, int]]
    """Whether the staged shutdown is armed, whether one runs, and its loads by phase."""
    shipping: ShipperHealth | None = None
    """How shipping to the fleet store goes; None where there is none."""
    fleet: tuple[Sequence[StoredAgent], Sequence[StoredUps]] = ((), ())
    """Every agent of the fleet store, and every UPS of theirs, as known last."""


def one_ups(
    state: DeviceState, options: UpsOptions, variables: Collection[str], statuses: Collection[str]
) -> Iterator[Metric | None]:
    """What nut_exporter gives of one UPS: no label ``ups``. ``variables`` and ``statuses`` limit it; empty: everything."""
    yield from nut_families({state.name: state}, {state.name: options}, (), variables, statuses)


def nut_families(
    states: Mapping[str, DeviceState],
    options: Mapping[str, UpsOptions],
    labels: tuple[str, ...] = ("ups",),
    variables: Collection[str] = (),
    statuses: Collection[str] = (),
) -> Iterator[Metric | None]:
    """The families ``network_ups_tools_*`` of every UPS that is in contact, by name; None wherever others may have their turn."""
    from prometheus_client.core import GaugeMetricFamily

    info = GaugeMetricFamily(f"{PREFIX}device_info", "UPS Device information", labels=(*labels, *INFO))
    flags = GaugeMetricFamily(f"{PREFIX}ups_status", "UPS Status Code (ups.status)", labels=(*labels, "flag"))
    values: dict[str, GaugeMetricFamily] = {}
    for name, state in states.items():
        reading = state.reading
        if reading is None or state.link is not Link.ONLINE:
            continue
        key = [name] if labels else []
        info.add_metric([*key, *_info(state, options[name])], 1.0)
        up = status_text(state.status).split()
        for flag in statuses or dict.fromkeys((*ALWAYS, *up)):
            flags.add_metric([*key, flag], float(flag in up))
        for variable, value in reading.values.items():
            number = WORDS.get(value.lower()) if isinstance(value, str) else value
            if number is None or (variables and variable not in variables):
                continue
            family = values.get(variable)
            if family is None:
                listed = VARIABLES.get(variable)
                text = f"{listed.description} ({variable})" if listed else f"Value of {variable} ({variable})"
                family = values[variable] = GaugeMetricFamily(PREFIX + _identifier(variable), text, labels=labels)
            family.add_metric(key, number)
        yield None
    yield info
    if not variables or "ups.status" in variables:
        yield flags
    for variable in sorted(values):
        yield values[variable]


def _identifier(variable: str) -> str:
    """The variable in a metric's name. OpenMetrics keeps ``_count`` for itself; only a name of our own ends so."""
    name = variable.replace(".", "_").replace("-", "_")
    return f"{name.removesuffix('_count')}_number" if name.endswith("_count") else name


def _info(state: DeviceState, options: UpsOptions) -> list[str]:
    values = state.reading.values if state.reading else {}
    texts = [str(values.get(f"device.{label}", "")) for label in INFO]
    if not texts[4]:
        texts[4] = options.description
    return texts


def agent_families(seen: View) -> Iterator[Metric]:
    """``qxfleet_*`` of the agent as a whole."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    def gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
        if value is not None:
            yield GaugeMetricFamily(f"qxfleet_{name}", text, value=value)

    def counter(name: str, text: str, value: float) -> Metric:
        return CounterMetricFamily(f"qxfleet_{name}", text, value=value)

    about = GaugeMetricFamily("qxfleet_build_info", "Version and name of the agent.", labels=("version", "agent"))
    about.add_metric([__version__, seen.agent], 1.0)
    yield about
    yield from gauge("ups_configured", "UPSes in the configuration.", len(seen.states))
    below, buckets = 0, []
    for bound in LATENESS_MS:
        below = sum(seen.lateness[: bound + 1])
        buckets.append((f"{bound / 1000:g}", float(below)))
    total = float(sum(seen.lateness))
    yield HistogramMetricFamily(
        "qxfleet_poll_lateness_seconds", "How long after their time polls left.", buckets=[*buckets, ("+Inf", total)],
        sum_value=sum(ms * count for ms, count in enumerate(seen.lateness)) / 1000,
    )  # fmt: skip
    yield from gauge("store_up", "1 while the database takes what it is given.", float(seen.store.error is None))
    yield from gauge("store_queued_readings", "Readings that wait for the database.", seen.store.queued_readings)
    yield from gauge("store_queued_events", "Events and orders that wait for the database.", seen.store.queued_events)
    yield counter("store_written_rows", "Rows the database took.", seen.store.written)
    yield counter("store_dropped_readings", "Readings lost because the database was away for too long.", seen.store.dropped)
    yield counter("store_given_up_rows", "Single rows the database would not take.", seen.store.given_up)
    committed_s = None if seen.store.last_commit_us is None else seen.store.last_commit_us / 1e6
    yield from gauge("store_last_commit_timestamp_seconds", "When the database last took something.", committed_s)
    yield from gauge("store_size_bytes", "Size of the database.", seen.store.size_bytes)
    if (shipping := seen.shipping) is not None:
        yield from gauge("fleet_store_up", "1 while the fleet store takes what is shipped.", float(shipping.trouble is None))
        yield from gauge("outbox_records", "Events, orders and other records that wait for the fleet store.", shipping.records)
        yield from gauge("outbox_readings", "Readings that wait for the fleet store.", shipping.readings)
        oldest_s = None if shipping.oldest_us is None else shipping.oldest_us / 1e6
        yield from gauge("outbox_oldest_timestamp_seconds", "Since when the oldest of them waits.", oldest_s)
        yield counter("shipped_rows", "Rows shipped to the fleet store.", shipping.shipped)


def fleet_families(seen: View) -> Iterator[Metric | None]:
    """``qxfleet_fleet_*``: every agent and UPS of the fleet store, with how old what is known of it is."""
    from prometheus_client.core import GaugeMetricFamily

    agents, upses = seen.fleet
    contact = GaugeMetricFamily(
        "qxfleet_fleet_agent_age_seconds", "Since the agent was last in touch with the fleet store.", labels=("agent", "site")
    )
    for agent in agents:
        contact.add_metric([agent.name, agent.site], agent.age_s)
    age = GaugeMetricFamily(
        "qxfleet_fleet_ups_age_seconds", "Age of the newest reading in the fleet store.", labels=("agent", "ups")
    )
    flags = GaugeMetricFamily(
        "qxfleet_fleet_ups_status", "1 for each flag of that reading's ups.status.", labels=("agent", "ups", "flag")
    )
    values = GaugeMetricFamily(
        "qxfleet_fleet_ups_value", "Values of that reading, by the name of the variable.", labels=("agent", "ups", "variable")
    )
    for ups in upses:
        if ups.age_s is None:
            continue
        age.add_metric([ups.agent, ups.name], ups.age_s)
        for flag in status_text(Status(ups.status)).split():
            flags.add_metric([ups.agent, ups.name, flag], 1.0)
        for variable, value in ups.values.items():
            values.add_metric([ups.agent, ups.name, variable], value)
    for family in (contact, age, flags, values):
        if family.samples:
            yield family


def ups_families(seen: View) -> Iterator[Metric | None]:
    """``qxfleet_*`` of every UPS, in contact or not."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    info = GaugeMetricFamily("qxfleet_ups_info", "What the UPS is called and speaks.", labels=("ups", "dialect", "description"))
    groups = GaugeMetricFamily("qxfleet_ups_group_info", "Groups a UPS belongs to.", labels=("ups", "group"))
    link = GaugeMetricFamily("qxfleet_ups_state", "How contact with the UPS stands.", labels=("ups", "state"))
    last = GaugeMetricFamily("qxfleet_last_success_timestamp_seconds", "When its last good reading came.", labels=("ups",))
    polls = CounterMetricFamily("qxfleet_polls", "Good polls.", labels=("ups",))
    missed = CounterMetricFamily("qxfleet_missed_polls", "Polls that were due and not made.", labels=("ups",))
    errors = CounterMetricFamily("qxfleet_poll_errors", "Polls that gave nothing usable, by why.", labels=("ups", "kind"))
    lost = CounterMetricFamily("qxfleet_link_losses", "How often contact was lost.", labels=("ups",))
    mended = CounterMetricFamily("qxfleet_link_remedies", "What the link did to mend itself.", labels=("ups", "remedy"))
    outage = CounterMetricFamily("qxfleet_outage_seconds", "Time without mains, as far as it was watched.", labels=("ups",))
    for name, state in seen.states.items():
        options, counters = seen.options[name], state.counters
        info.add_metric([name, state.identity.dialect if state.identity else options.dialect, options.description], 1.0)
        for group in options.groups:
            groups.add_metric([name, group], 1.0)
        for each in Link:
            link.add_metric([name, each.value], float(state.link is each))
        if state.reading is not None:
            last.add_metric([name], state.reading.wall_us / 1e6)
        good, skipped = seen.polls[name]
        polls.add_metric([name], good)
        missed.add_metric([name], skipped)
        for kind in ("silent", "malformed", "implausible", "refused"):
            errors.add_metric([name, kind], getattr(counters, kind))
        lost.add_metric([name], counters.links_lost)
        for remedy, count in state.remedies.items():
            mended.add_metric([name, remedy], count)
        outage.add_metric([name], seen.outage_s.get(name, 0.0))
        yield None
    yield from (info, groups, link, last, polls, missed, errors, lost, mended, outage)


def battery_families(seen: View) -> Iterator[Metric]:
    """``qxfleet_battery_*``: what the batteries are worth, and their last tests; absent where the data can't carry it."""
    from prometheus_client.core import GaugeMetricFamily

    soh = GaugeMetricFamily("qxfleet_battery_soh_ratio", "Capacity now, of that when new.", labels=("ups",))
    low = GaugeMetricFamily("qxfleet_battery_soh_low_ratio", "Its lower bound: in 19 of 20 it is higher.", labels=("ups",))
    by = GaugeMetricFamily("qxfleet_battery_replace_by_timestamp_seconds", "When to replace it.", labels=("ups",))
    verdicts = GaugeMetricFamily("qxfleet_battery_verdict", "What to do about it.", labels=("ups", "verdict"))
    for health in seen.batteries:
        ups = [health.evidence.ups]
        if health.percent is not None:
            soh.add_metric(ups, health.percent / 100)
            if health.error is not None:
                low.add_metric(ups, max(0.0, health.percent - Z * health.error) / 100)
        if health.by_us is not None:
            by.add_metric(ups, health.by_us / 1e6)
        for verdict in BatteryVerdict:
            verdicts.add_metric([*ups, verdict.value], float(health.verdict is verdict))
    last = GaugeMetricFamily("qxfleet_battery_test_last_timestamp_seconds", "When its last battery test ended.", labels=("ups",))
    results = GaugeMetricFamily("qxfleet_battery_test_result", "How its last battery test ended.", labels=("ups", "result"))
    for test in seen.tests:
        if test.ended_us is None:
            continue
        last.add_metric([test.ups], test.ended_us / 1e6)
        for result in TestVerdict:
            results.add_metric([test.ups, result.value], float(test.verdict is result))
    yield from (soh, low, by, verdicts, last, results)


def plan_families(seen: View) -> Iterator[Metric]:
    """``qxfleet_plan_*``: how the staged shutdown stands."""
    from prometheus_client.core import GaugeMetricFamily

    armed, running, phases = seen.plan
    yield GaugeMetricFamily("qxfleet_plan_armed", "1 if the staged shutdown may touch anything.", value=float(armed))
    yield GaugeMetricFamily("qxfleet_plan_running", "1 while a shutdown or a return is under way.", value=float(running))
    stages = GaugeMetricFamily("qxfleet_plan_stage", "Loads by how far they are.", labels=("phase",))
    for phase, count in phases.items():
        stages.add_metric([phase], count)
    yield stages
