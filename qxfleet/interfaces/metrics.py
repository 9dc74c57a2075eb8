"""Metrics for Prometheus: the fleet at ``/metrics`` of [http], one UPS as nut_exporter itself gives it at ``/ups_metrics`` of
[metrics].
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from qxfleet import __version__
from qxfleet.agent.agent import Agent
from qxfleet.agent.shipping import Shipping
from qxfleet.battery.health import Health
from qxfleet.config.load import Config
from qxfleet.errors import StoreError
from qxfleet.interfaces.http import App, HttpServer, Message, Receive, Send, load
from qxfleet.interfaces.judgements import PATIENCE_S, Judgements
from qxfleet.interfaces.metric_families import (
    View,
    agent_families,
    battery_families,
    fleet_families,
    nut_families,
    one_ups,
    plan_families,
    ups_families,
)  # fmt: skip
from qxfleet.interfaces.mirror import Mirror
from qxfleet.interfaces.stream import plan_figures
from qxfleet.interfaces.turns import in_turns
from qxfleet.model.events import Event, Link, Phase
from qxfleet.store import fleet_view
from qxfleet.store.fleet_view import StoredAgent, StoredUps
from qxfleet.store.tests import StoredTest, latest_tests

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

SAMPLES = 200
"""Samples written before others have their turn: about two milliseconds."""

EOF = b"# EOF\n"
"""What OpenMetrics ends with."""

PLAIN = "text/plain; charset=utf-8"


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


def view(
    agent: Agent | Mirror, outages: Outages, batteries: Sequence[Health] = (), tests: Sequence[StoredTest] = (),
    fleet: tuple[Sequence[StoredAgent], Sequence[StoredUps]] = ((), ()),
) -> View:  # fmt: skip
    """The agent as it is now. Call on the loop."""
    states = dict(agent.shown())
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
        batteries=batteries,
        tests=tests,
        plan=agent.plan if isinstance(agent, Mirror) else plan_figures(agent),
        shipping=None if (shipping := agent.part(Shipping)) is None else shipping.health(),
        fleet=fleet,
    )


class _Collector:
    """Hands prometheus-client some families."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def written(families: Iterable[Metric | None], accept: str, *, process: bool = False) -> tuple[bytes, str]:
    """The text of one scrape and its content type, in the format that ``accept`` asks for; with the process's own figures.

    Made in turns with the loop. None among the families is a place to give way.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder

    encode, content_type = choose_encoder(accept)

    def text(collector: Any) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(collector)
        return encode(registry).removesuffix(EOF)

    def pieces() -> Iterator[bytes]:
        for family in families:
            for part, first in _parts(family) if family is not None else ():
                lines = text(_Collector(part))
                yield lines if first else b"".join(line for line in lines.splitlines(True) if not line.startswith(b"#"))
            yield b""
        if process:
            yield text(ProcessCollector(registry=None))

    whole = b"".join(await in_turns(pieces()))
    return whole + (EOF if content_type.startswith("application/openmetrics-text") else b""), content_type


def _parts(family: Metric) -> Iterator[tuple[Metric, bool]]:
    """A family with so few samples at a time that writing them is short work; whether it is the first of them."""
    for begin in range(0, max(1, len(family.samples)), SAMPLES):
        part = copy(family)
        part.samples = family.samples[begin : begin + SAMPLES]
        yield part, begin == 0


class Metrics:
    """What is to be scraped of one agent, as bytes."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._outages = Outages(agent)
        self._last_tests: list[StoredTest] = []
        self.judgements = Judgements(agent)

    def close(self) -> None:
        """Let go of the agent's bus."""
        self._outages.close()

    async def fleet(self, accept: str) -> tuple[bytes, str]:
        """``/metrics`` of [http]: everything, with label ``ups``."""
        tests = await self._tests()
        seen = view(self._agent, self._outages, await self.judgements.known(), tests, await self._fleet())
        families = chain(
            nut_families(seen.states, seen.options), ups_families(seen), battery_families(seen), plan_families(seen),
            agent_families(seen), fleet_families(seen),
        )  # fmt: skip
        return await written(families, accept, process=True)

    async def _fleet(self) -> tuple[Sequence[StoredAgent], Sequence[StoredUps]]:
        """All agents and their UPSes; none where the fleet store can't be asked: what is old is not told as new."""
        shipping = self._agent.part(Shipping)
        health = None if shipping is None else shipping.health()
        if shipping is not None and health is not None and health.state in ("ok", "behind"):
            with contextlib.suppress(TimeoutError, StoreError):
                async with asyncio.timeout(PATIENCE_S):
                    return await shipping.read(lambda connection: (fleet_view.agents(connection), fleet_view.upses(connection)))
        return (), ()

    async def _tests(self) -> list[StoredTest]:
        """The last test of every UPS; as known last where the database can't be asked, or takes its time."""
        if self._agent.store.health().error is None:
            with contextlib.suppress(TimeoutError, StoreError):
                async with asyncio.timeout(PATIENCE_S):
                    self._last_tests = list((await self._agent.store.read(latest_tests)).values())
        return self._last_tests

    async def itself(self, accept: str) -> tuple[bytes, str]:
        """``/metrics`` of [metrics]: the agent alone, as nut_exporter tells of itself there."""
        return await written(agent_families(view(self._agent, self._outages)), accept, process=True)

    async def ups(self, name: str, accept: str, variables: Collection[str], statuses: Collection[str]) -> tuple[bytes, str]:
        """``/ups_metrics`` of one configured UPS."""
        state, options = self._agent.shown()[name], self._agent.fleet.options(name)
        return await written(one_ups(state, options, variables, statuses), accept)


class MetricsServer:
    """``[metrics]``: nut_exporter's own endpoint, one UPS per request. Nothing listens without the table."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._http = HttpServer(agent, "metrics", self._make, ("prometheus_client",))
        self._metrics: Metrics | None = None
        self._moving: asyncio.Task[None] | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is to be found; none while it is off."""
        return self._http.urls

    async def start(self) -> None:
        """Listen, if the configuration says so. """
        face = self._agent.config.faces.metrics
        if face is not None:
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
            self._http.take_certificate()
            return []
        if self._moving is not None:
            self._moving.cancel()
        self._moving = asyncio.create_task(self._http.move(face))
        return [f"[metrics]: {'listens on ' + ', '.join(map(str, face.listen)) if face else 'off'}"]

    async def _make(self) -> App:
        await load("prometheus_client")
        return self._answer

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
                names = tuple(self._agent.shown())
                asked = query.get("ups", [])
                if not asked and len(names) != 1:
                    return 400, b"name one UPS: /ups_metrics?ups=NAME\n", PLAIN
                name = asked[0] if asked else names[0]
                if name not in names:
                    return 404, f"no UPS is named {name!r}\n".encode(), PLAIN
                state = self._agent.shown()[name]
                if state.link is not Link.ONLINE or state.reading is None:
                    why = f"{name} is {state.link.value}: {state.link_reason or 'no reading yet'}\n"
                    return 503, why.encode(), PLAIN
                limits = (_list(query, "variables"), _list(query, "statuses"))
                return (200, *await self._metrics.ups(name, accept, *limits))
            case "/":
                upses = "".join(f"  /ups_metrics?ups={name}\n" for name in self._agent.shown())
                return 200, f"qxfleet {__version__}\n  /metrics\n{upses}".encode(), PLAIN
            case _:
                return 404, b"there are /ups_metrics?ups=NAME and /metrics\n", PLAIN


def _list(query: Mapping[str, list[str]], key: str) -> tuple[str, ...]:
    """Comma-separated names of a query."""
    return tuple(name for part in query.get(key, []) for name in part.split(",") if name)
