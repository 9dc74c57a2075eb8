"""Metrics for Prometheus: the fleet in nut_exporter's names with label ``ups``, one UPS as nut_exporter itself gives it, and
``qxfleet_*`` for the agent.

nut_exporter's rules (its README and collector): a variable's name with ``.`` and ``-`` as ``_`` behind ``network_ups_tools_``;
words for on and off become 1 and 0, other text is left out; one ``ups_status`` series per flag; what text there is to show stands
in the labels of ``device_info``. A UPS that is out of contact has no values, as ``upsd`` gives none (DATA-STALE).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from qxfleet import __version__
from qxfleet.agent.agent import Agent, Health
from qxfleet.config.load import Config
from qxfleet.interfaces.http import HttpServer, Message, Receive, Send, load
from qxfleet.interfaces.judgements import Judgements
from qxfleet.model.events import Event, Link, Phase
from qxfleet.model.options import UpsOptions
from qxfleet.model.state import DeviceState
from qxfleet.model.status import status_text
from qxfleet.model.variables import VARIABLES
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

PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class View:
    """What one scrape shows, taken on the loop in one go and written out on a thread."""

    agent: str
    states: Mapping[str, DeviceState]
    options: Mapping[str, UpsOptions]
    polls: Mapping[str, tuple[int, int]]
    """UPS → good polls, missed ones."""
    health: Health
    store: StoreHealth
    lateness: tuple[int, ...]
    outage_s: Mapping[str, float]
    wall_us: int


class Outages:
    """Seconds every UPS was without mains since this began to listen."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._ended_s: dict[str, float] = {}
        self._since_s: dict[str, float] = {}
        agent.bus.attach(Event, self._heard)

    def close(self) -> None:
        """Listen no more."""
        self._agent.bus.detach(Event, self._heard)

    def seconds(self) -> dict[str, float]:
        """UPS → seconds, an outage that lasts included."""
        now_s = self._agent.clock.monotonic()
        total = dict(self._ended_s)
        for ups, since_s in self._since_s.items():
            total[ups] = total.get(ups, 0.0) + now_s - since_s
        return total

    def _heard(self, event: Event) -> None:
        if event.ups is None or event.name != "on-battery":
            return
        now_s = self._agent.clock.monotonic()
        if event.phase is Phase.BEGIN:
            self._since_s.setdefault(event.ups, now_s)
        elif event.phase is Phase.END and (since_s := self._since_s.pop(event.ups, None)) is not None:
            self._ended_s[event.ups] = self._ended_s.get(event.ups, 0.0) + now_s - since_s


def view(agent: Agent, outages: Outages) -> View:
    """The agent as it is now. Call on the loop."""
    states = dict(agent.fleet.snapshot())
    sessions = {name: agent.fleet.session(name) for name in states}
    return View(
        agent=agent.config.agent.name,
        states=states,
        options={name: agent.fleet.options(name) for name in states},
        polls={name: (session.polls, session.missed_polls) for name, session in sessions.items()},
        health=agent.health(),
        store=agent.store.health(),
        lateness=tuple(agent.fleet.pace.lateness),
        outage_s=outages.seconds(),
        wall_us=agent.clock.wall_us(),
    )


def one_ups(state: DeviceState, options: UpsOptions, variables: Collection[str], statuses: Collection[str]) -> Iterator[Metric]:
    """What nut_exporter gives of one UPS: no label ``ups``. ``variables`` and ``statuses`` limit it; empty: everything."""
    yield from nut_families({state.name: state}, {state.name: options}, (), variables, statuses)


def nut_families(
    states: Mapping[str, DeviceState],
    options: Mapping[str, UpsOptions],
    labels: tuple[str, ...] = ("ups",),
    variables: Collection[str] = (),
    statuses: Collection[str] = (),
) -> Iterator[Metric]:
    """The families ``network_ups_tools_*`` of every UPS that is in contact, by name."""
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


def ups_families(seen: View) -> Iterator[Metric]:
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
    yield from (info, groups, link, last, polls, missed, errors, lost, mended, outage)


class _Collector:
    """Hands prometheus-client what was made for one scrape."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def written(families: Iterable[Metric], accept: str, *, process: bool = False) -> tuple[bytes, str]:
    """The text of one scrape and its content type, in the format that ``accept`` asks for; with the process's own figures."""
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(families))
    if process:
        ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class Metrics:
    """What is to be scraped of one agent, as bytes; made on a thread, so that polls are not held up."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._outages = Outages(agent)
        self.judgements = Judgements(agent)

    def close(self) -> None:
        """Let go of the agent's bus."""
        self._outages.close()

    async def fleet(self, accept: str) -> tuple[bytes, str]:
        """``/metrics`` of [http]: everything, with label ``ups``."""
        seen = view(self._agent, self._outages)

        def work() -> tuple[bytes, str]:
            families = chain(nut_families(seen.states, seen.options), ups_families(seen), agent_families(seen))
            return written(families, accept, process=True)

        return await asyncio.to_thread(work)

    async def itself(self, accept: str) -> tuple[bytes, str]:
        """``/metrics`` of [metrics]: the agent alone, as nut_exporter tells of itself there."""
        seen = view(self._agent, self._outages)
        return await asyncio.to_thread(lambda: written(agent_families(seen), accept, process=True))

    async def ups(self, name: str, accept: str, variables: Collection[str], statuses: Collection[str]) -> tuple[bytes, str]:
        """``/ups_metrics`` of one configured UPS."""
        state, options = self._agent.fleet.snapshot()[name], self._agent.fleet.options(name)
        return await asyncio.to_thread(lambda: written(one_ups(state, options, variables, statuses), accept))


class MetricsServer:
    """``[metrics]``: nut_exporter's own endpoint, one UPS per request. Nothing listens without the table."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._http = HttpServer("metrics", self._answer)
        self._metrics: Metrics | None = None
        self._moving: asyncio.Task[None] | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is to be found; none while it is off."""
        return self._http.urls

    async def start(self) -> None:
        """Listen, if the configuration says so. Raises CannotListen."""
        face = self._agent.config.faces.metrics
        if face is not None:
            await load("metrics", "prometheus_client")
            await self._http.start(face)

    async def stop(self) -> None:
        """Listen no more."""
        if self._moving is not None:
            self._moving.cancel()
        await self._http.stop()
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def apply(self, config: Config) -> list[str]:
        """Listen where the new configuration says."""
        face = config.faces.metrics
        if face == self._http.face:
            return []
        if self._moving is not None:
            self._moving.cancel()
        self._moving = asyncio.create_task(self._http.move(face))
        return [f"[metrics]: {'listens on ' + ', '.join(map(str, face.listen)) if face else 'off'}"]

    async def _answer(self, scope: Mapping[str, object], receive: Receive, send: Send) -> None:
        """The ASGI application: three paths."""
        headers = dict(scope["headers"])  # type: ignore[call-overload]
        accept = headers.get(b"accept", b"").decode("latin-1")
        query = parse_qs(scope["query_string"].decode("latin-1"))  # type: ignore[attr-defined]
        if scope["method"] in ("GET", "HEAD"):
            status, body, kind = await self._reply(str(scope["path"]), query, accept)
        else:
            status, body, kind = 405, b"only GET is answered here\n", PLAIN
        fields = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        start: Message = {"type": "http.response.start", "status": status, "headers": fields}
        await send(start)
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _reply(self, path: str, query: Mapping[str, list[str]], accept: str) -> tuple[int, bytes, str]:
        if self._metrics is None:
            self._metrics = Metrics(self._agent)
        match path:
            case "/metrics":
                return (200, *await self._metrics.itself(accept))
            case "/ups_metrics":
                names = tuple(self._agent.fleet.snapshot())
                asked = query.get("ups", [])
                if not asked and len(names) != 1:
                    return 400, b"name one UPS: /ups_metrics?ups=NAME\n", PLAIN
                name = asked[0] if asked else names[0]
                if name not in names:
                    return 404, f"no UPS is named {name!r}\n".encode(), PLAIN
                state = self._agent.fleet.snapshot()[name]
                if state.link is not Link.ONLINE or state.reading is None:
                    why = f"{name} is {state.link.value}: {state.link_reason or 'no reading yet'}\n"
                    return 503, why.encode(), PLAIN
                limits = (_list(query, "variables"), _list(query, "statuses"))
                return (200, *await self._metrics.ups(name, accept, *limits))
            case "/":
                upses = "".join(f"  /ups_metrics?ups={name}\n" for name in self._agent.fleet.snapshot())
                return 200, f"qxfleet {__version__}\n  /metrics\n{upses}".encode(), PLAIN
            case _:
                return 404, b"there are /ups_metrics?ups=NAME and /metrics\n", PLAIN


def _list(query: Mapping[str, list[str]], key: str) -> tuple[str, ...]:
    """Comma-separated names of a query."""
    return tuple(name for part in query.get(key, []) for name in part.split(",") if name)
