"""A room on a desk: simulated UPSes and hosts in the place of those that a plan names.

The plan is the configured one, with every way out of the agent turned to these hosts: no device, host, webhook or hardware
address of the real room is ever touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from qxfleet.agent.fleet import Fleet
from qxfleet.agent.forced import Client, ForcedShutdown
from qxfleet.config.load import Config
from qxfleet.dialects.registry import dialect_named
from qxfleet.dialects.spec import Dialect
from qxfleet.model.electrical import VA_TO_WATTS
from qxfleet.model.events import OrderResult, Outcome
from qxfleet.model.loads import (
    Command,
    CommandSays,
    DownWhen,
    Load,
    NutClients,
    NutLoggedOut,
    Outlet,
    Plan,
    TcpClosed,
    UpsLoadBelow,
    WakeOnLan,
    Webhook,
)  # fmt: skip
from qxfleet.model.options import UpsOptions
from qxfleet.shutdown.act import meant
from qxfleet.shutdown.effects import Done, Port
from qxfleet.shutdown.forecast import Forecast
from qxfleet.shutdown.looks import HOT_S, SILENT_S
from qxfleet.shutdown.rehearse import Battery, room_of
from qxfleet.store.store import Store
from qxfleet.testing.battery import Battery as Cells
from qxfleet.testing.loads import Host, HostState, Room, Trouble
from qxfleet.testing.machine import IDLE_FRACTION, Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps
from qxfleet.testing.unit import Unit
from qxfleet.testing.voltronic import models as voltronic
from qxfleet.testing.voltronic.ups import VoltronicUps
from qxfleet.transports.inproc import InProcTransport

WIRE_S = 0.2
COMMAND_S = 1.0
"""An ssh, from its start to its end."""

USUAL_RUNTIME_S = 900.0
"""What a battery lasts at the present load where nobody knows."""

USUAL_STOP = 0.6
"""Of its stop_time, what a host takes to stop where nothing was learned."""

BOOT_S = 60.0
"""From power or a start to a host that is up, where its start_time is not shorter."""

PRESENT_SHARE = 0.4
"""Of what it may carry, what a UPS carries where nothing is known of that."""

UP = (HostState.UP, HostState.STOPPING)


class Desk:
    """Simulated UPSes by name, the hosts on them, and the plan that means these hosts.

    ``batteries``: what is known of the real UPSes; of others it is assumed, and ``assumed`` names them. ``truth``: the share of
    their runtime that batteries really hold. ``hangs``, ``refuses``: hosts that take the order to stop and stay up, or take none.
    """

    def __init__(
        self, config: Config, batteries: Mapping[str, Battery], *, hangs: Collection[str] = (), refuses: Collection[str] = (),
        truth: float = 1.0,
    ) -> None:  # fmt: skip
        real = config.shutdown
        self.assumed = tuple(ups for ups in real.fed if ups not in batteries)
        known = {ups: batteries.get(ups, Battery(USUAL_RUNTIME_S)) for ups in real.fed}
        imagined = room_of(real, known)
        self.options: list[UpsOptions] = []
        self.upses: dict[str, Unit] = {}
        self.volts: dict[str, float] = {}
        base_w: dict[str, float] = {}
        for number, options in enumerate(each for each in config.ups if each.name in real.fed):
            name = options.name
            watts = imagined.power_w(name)
            facts = config.batteries.get(name)
            rated_w = known[name].rated_w or (facts.rated_w if facts else None) or watts / PRESENT_SHARE
            unit = _unit(options, known[name], watts, rated_w, truth, number)
            self.upses[name] = unit
            self.volts[name] = unit.machine.ratings.volts
            idle_w = imagined.upses[name].idle_w
            base_w[name] = imagined.upses[name].full_w * 0.1 if idle_w is None else idle_w
            tells_no_watts = name in batteries and batteries[name].asked and batteries[name].load_w is None
            self.options.append(replace(
                options, port=f"desk:{name}", dialect=unit.dialect.name, usb={}, device_settings={},
                norating=options.norating or tells_no_watts,
            ))  # fmt: skip
        hosts = [
            Host(
                load.name, [self.upses[ups].machine for ups in load.fed_by], watts=imagined.machines[load.name].watts,
                stops_in_s=_stops_in_s(load), starts_in_s=min(BOOT_S, load.start_time_s / 2), lives_on=load.needs_feeds,
                boots=load.start is None or load.name == real.host,
                shares=[imagined.machines[load.name].shares.get(ups) for ups in load.fed_by],
            )
            for load in real.loads
        ]  # fmt: skip
        machines = [unit.machine for unit in self.upses.values()]
        self.room = Room(machines, hosts, base_w=[base_w[name] for name in self.upses])
        for name in hangs:
            self.room.hosts[name].trouble = Trouble.HANGS
        for name in refuses:
            self.room.hosts[name].trouble = Trouble.REFUSES
        self.plan = replace(real, loads=tuple(_turned(load) for load in real.loads), armed=True)
        self.effects = Effects(self.plan, self.room)
        self.forecast = DeskForecast(self.upses, batteries, truth)

    def config(self, config: Config, folder: Path) -> Config:
        """The configuration of an agent for this desk: no interface, no schedule, and all its files in ``folder``."""
        from qxfleet.config.faces import NO_FACES

        state = folder / "state.db"
        agent = replace(
            config.agent, database=f"sqlite:///{state}", state=state, spool=folder / "state.db.side",
            control=folder / "agent.sock",
        )  # fmt: skip
        return replace(
            config, agent=agent, ups=tuple(self.options), shutdown=self.plan, faces=NO_FACES,
            schedules=(), profiles=(), fleet=None,
        )  # fmt: skip

    def wire(self, options: UpsOptions) -> InProcTransport:
        """The line to a simulated UPS."""
        unit = self.upses[options.name]

        async def carry(request: bytes) -> bytes | None:
            reply = unit.answer(request, asyncio.get_running_loop().time())
            await asyncio.sleep(WIRE_S)
            return reply

        return InProcTransport(options.name, carry)

    def mains(self, on: bool, upses: Iterable[str]) -> None:
        """Mains of these come or go."""
        for name in upses:
            self.upses[name].machine.set_mains(self.volts[name] if on else 0.0)

    def logins(self, ups: str) -> Iterable[Client]:
        """The NUT clients that are logged in to a UPS: one on each host that is up and is stopped that way."""
        for load in self.plan.fed.get(ups, ()):
            if isinstance(load.stop, NutClients) and self.room.hosts[load.name].state is HostState.UP:
                yield client_of(load.name, load.stop)

    def advance(self, now_s: float, forced: ForcedShutdown) -> None:
        """Let time pass in the room; hosts that have upsmon see whether they are told to shut down."""
        self.room.advance(now_s)
        for load in self.plan.loads:
            host = self.room.hosts[load.name]
            if isinstance(load.stop, NutClients) and host.state is HostState.UP:
                client = client_of(load.name, load.stop)
                left = sum(not forced.is_set(ups, client) for ups in load.fed_by)
                if left < load.needs_feeds:
                    host.stop(now_s)


def client_of(load: str, stop: NutClients) -> Client:
    """The upsmon of a load's host, as it would log in."""
    who = meant(stop)
    return Client(who.user or load, who.address or load)


class DeskForecast(Forecast):
    """Forecasts as good as those of the real room, of batteries that hold ``truth`` of what they promise."""

    def __init__(self, upses: Mapping[str, Unit], batteries: Mapping[str, Battery], truth: float) -> None:
        super().__init__()
        self._upses, self._batteries, self._truth = upses, batteries, truth

    async def refresh(self, store: Store, upses: Collection[str]) -> None:
        """Nothing is learned on a desk."""

    def __call__(self, ups: str, load_percent: float | None, charge: float | None) -> tuple[float | None, float | None]:
        """Seconds: likely, and at worst."""
        battery = self._batteries.get(ups)
        if battery is None or not load_percent or charge is None:
            return None, None
        machine = self._upses[ups].machine
        watts = machine.ratings.watts * (load_percent / 100 + IDLE_FRACTION)
        likely_s = left_s(machine.battery, watts) / self._truth
        sure = None if battery.runtime_low_s is None else battery.runtime_low_s / battery.runtime_s
        return likely_s, None if sure is None else likely_s * sure


class DeskFleet(Fleet):
    """A fleet whose outlets switch the hosts of a desk."""

    desk: Desk

    async def perform(
        self, ups: str, name: str, value: str | None, *, actor: str, delays: Mapping[str, float] = {}, must: bool = False
    ) -> OrderResult:
        """As the fleet's, but for outlets."""
        words = name.split(".")
        if words[0] != "outlet" or len(words) != 4:
            return await super().perform(ups, name, value, actor=actor, delays=delays, must=must)
        now_s = asyncio.get_running_loop().time()
        for load in self.desk.plan.loads:
            host = self.desk.room.hosts[load.name]
            if words[3] == "off" and load.stop == Outlet(ups, int(words[1])):
                host.switch_off(now_s)
            elif words[3] == "on" and load.start == Outlet(ups, int(words[1])):
                host.start(now_s)
        return OrderResult(ups, name, value, Outcome.ACCEPTED, sent=name, text="switched")


class Effects:
    """The outside of a desk: whatever is asked, it is one of the hosts that answers."""

    def __init__(self, plan: Plan, room: Room) -> None:
        self._hosts = room.hosts
        self._woken: dict[str, list[str]] = {}
        self._at = dict(room.hosts)
        for load in plan.loads:
            if isinstance(load.start, WakeOnLan):
                self._woken.setdefault(load.start.mac, []).append(load.name)
            if isinstance(load.stop, NutClients):
                self._at[client_of(load.name, load.stop).address] = room.hosts[load.name]

    async def command(self, argv: Sequence[str], within_s: float) -> Done:
        """``NAME stop|start|down …``, as :func:`_turned` writes it."""
        host, now_s = self._hosts[argv[0]], asyncio.get_running_loop().time()
        await asyncio.sleep(min(COMMAND_S, within_s))
        if argv[1] == "down":
            return Done(Outcome.ACCEPTED, "", 0 if host.state not in UP else 1)
        return self._done(host.stop(now_s) if argv[1] == "stop" else host.start(now_s), "exit code 0", "exit code 255")

    async def webhook(self, url: str, headers: Mapping[str, str], body: Mapping[str, Any], within_s: float) -> Done:
        """A POST that names load and act."""
        host, now_s = self._hosts[body["load"]], asyncio.get_running_loop().time()
        await asyncio.sleep(WIRE_S)
        return self._done(host.stop(now_s) if body["act"] == "stop" else host.start(now_s), "HTTP 200", "HTTP 503")

    async def wake(self, mac: str, to: str) -> Done:
        """A magic packet."""
        for name in self._woken.get(mac, ()):
            self._hosts[name].start(asyncio.get_running_loop().time())
        return Done(Outcome.UNCONFIRMED, f"magic packet for {mac} sent to {to}")

    async def port(self, host: str, port: int, within_s: float) -> Port:
        """Open while the host is up, refused while it stops, and silent after."""
        if await self.answers(host, within_s):
            return Port.OPEN if self._at[host].listens(asyncio.get_running_loop().time()) else Port.REFUSED
        await asyncio.sleep(within_s)
        return Port.SILENT

    async def answers(self, host: str, within_s: float) -> bool:
        """Echo and ARP, while it is up."""
        await asyncio.sleep(0.01)
        return self._at[host].state in UP

    def _done(self, took: bool, good: str, bad: str) -> Done:
        if took:
            return Done(Outcome.ACCEPTED, good, 0)
        return Done(Outcome.REJECTED, f"{bad}: simulated: the host takes no order", 255)


def _turned(load: Load) -> Load:
    """The same load, with the hosts of the desk at the end of every way; the words of commands are kept for those who read."""

    def way(act: str, found: Any) -> Any:
        if isinstance(found, Command):
            return Command((load.name, act, *found.argv))
        return replace(found, token_file="") if isinstance(found, Webhook) else found

    def sign(found: DownWhen | None) -> Any:
        match found:
            case CommandSays(argv):
                return CommandSays((load.name, "down", *argv))
            case TcpClosed(_, port, also):
                return TcpClosed(load.name, port, sign(also))
            case NutLoggedOut(also):
                return NutLoggedOut(sign(also))
            case UpsLoadBelow() | None:
                return found

    return replace(load, stop=way("stop", load.stop), start=way("start", load.start), down_when=sign(load.down_when))


def _stops_in_s(load: Load) -> float:
    """What the simulated host takes: as learned, less the silence that stood for its end; else a share of its stop_time that
    leaves time to see it off."""
    if load.learned_s is not None:
        return max(load.learned_s - SILENT_S - HOT_S, 1.0)
    return max(min(load.stop_time_s * USUAL_STOP, load.stop_time_s - SILENT_S - 4 * HOT_S), 1.0)


def _unit(options: UpsOptions, battery: Battery, watts: float, rated_w: float, truth: float, seed: int) -> Unit:
    """A UPS that carries so much and lasts so long with it."""
    dialect = dialect_named(options.dialect) if options.dialect != "auto" else None
    megatec = dialect_named("megatec")
    assert megatec is not None
    model = voltronic.MODELS[0] if dialect is not None and dialect.name == "voltronic" else None
    base = model.ratings if model is not None else Ratings()
    share = battery.charge / 100 or 1.0
    full_s = truth * battery.runtime_s / share
    volts = base.battery_v
    ratings = replace(
        base, va=round(rated_w / VA_TO_WATTS), watts=rated_w, battery_strings=1,
        battery_ah=ampere_hours(volts, watts + IDLE_FRACTION * rated_w, full_s),
    )  # fmt: skip
    machine = Machine(ratings, seed=seed, load_percent=100 * watts / rated_w, noise=0.1)
    machine.battery.set_charge(share)
    if model is not None and dialect is not None:
        return VoltronicUps(dialect, model, name=options.name, seed=seed, machine=machine, groups=options.groups)
    spoken: Dialect = megatec if dialect is None else dialect
    return SimulatedUps(spoken, name=options.name, seed=seed, machine=machine, groups=options.groups)


def ampere_hours(volts: float, watts: float, runtime_s: float) -> float:
    """The capacity of a new battery that lasts so long with so much on it."""
    low, high = 0.01, 100_000.0
    for _ in range(30):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _lasts_s(volts, middle, watts, runtime_s) < runtime_s else (low, middle)
    return high


def _lasts_s(volts: float, capacity_ah: float, watts: float, longest_s: float) -> float:
    cells = Cells(volts, capacity_ah)
    cells.set_charge(1.0)
    return left_s(cells, watts, longest_s / 100)


def left_s(cells: Cells, watts: float, step_s: float = 0.0) -> float:
    """How long a battery lasts from now with so much on it, in a hundred steps or so, and no more than two hundred."""
    step_s = step_s or max(cells.runtime_s(watts) / 100, 0.5)
    trial = copy(cells)
    for step in range(200):
        if trial.empty:
            return step * step_s
        trial.discharge(watts, step_s)
    return 200 * step_s

