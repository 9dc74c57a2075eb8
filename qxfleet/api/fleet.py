"""What may be asked of the fleet: how it stands, what a UPS can do, and orders to one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import qxfleet
from qxfleet.agent.agent import Agent
from qxfleet.agent.forced import Client
from qxfleet.agent.shipping import Shipping
from qxfleet.api import requests, responses, shapes
from qxfleet.api.asking import Say, Streams, Verbs, names, one
from qxfleet.api.fleet_shapes import shipping_document


def verbs(agent: Agent) -> Verbs:
    """``about``, ``status``, ``vars``, ``commands``, ``settings``, ``command``, ``set``."""

    async def about(request: requests.About, actor: str) -> responses.AgentAbout:
        return {
            "agent": agent.config.agent.name, "version": qxfleet.__version__, "pid": os.getpid(), "you": actor,
            **shapes.state_told(agent),
        }  # fmt: skip

    async def status(request: requests.Status, actor: str) -> responses.FleetStatus:
        chosen = names(agent, request.targets)
        found: responses.FleetStatus = {**_fleet(agent, chosen), **shapes.state_told(agent)}
        shipping = agent.part(Shipping)
        if shipping is not None and (health := shipping.health()) is not None:
            found["fleet_store"] = shipping_document(health, agent.clock.wall_us())
        if not request.remedies:
            return found
        states = agent.fleet.snapshot()
        found["remedies"] = {name: dict(states[name].remedies) for name in chosen if states[name].remedies}
        return found

    async def vars(request: requests.Vars, actor: str) -> responses.UpsVars:
        name = one(agent, request.ups)
        state, forced = agent.fleet.snapshot()[name], agent.forced.is_set(name, Client())
        age_s = None if state.reading is None else agent.clock.monotonic() - state.reading.mono_s
        shown = shapes.vars_document(state, forced=forced)
        return {**shown, "state": state.link.value, "reason": state.link_reason, "age_s": age_s}

    async def commands(request: requests.Commands, actor: str) -> responses.CommandsAndLoads:
        name = one(agent, request.ups)
        feeds = [load.name for load in agent.config.shutdown.fed.get(name, ())]
        return {**shapes.orders_document(name, agent.fleet.orders(name)), "feeds": feeds}

    async def settings(request: requests.Settings, actor: str) -> responses.Settings:
        name = one(agent, request.ups)
        return shapes.settings_document(name, agent.fleet.settings(name))

    async def command(request: requests.Command, actor: str) -> responses.OrderTold:
        name = one(agent, request.ups)
        result = await agent.fleet.perform(name, request.name, request.value, actor=actor)
        return shapes.order_told(result)

    async def set(request: requests.Set, actor: str) -> responses.OrderTold:
        result = await agent.fleet.set(one(agent, request.ups), request.name, request.value, actor=actor)
        return shapes.order_told(result)

    async def force(request: requests.Force, actor: str) -> responses.Forced:
        name = one(agent, request.ups)
        await agent.force(name, actor)
        return {"ups": name}

    return {
        requests.About: about, requests.Status: status, requests.Vars: vars, requests.Commands: commands, requests.Force: force,
        requests.Settings: settings, requests.Command: command, requests.Set: set,
    }  # fmt: skip


def streams(agent: Agent) -> Streams:
    """``watch``."""

    async def watch(request: requests.Watch, actor: str, say: Say[responses.FleetStatus]) -> None:
        """The fleet's status again and again, every ``every_s`` seconds (1 by default, at least 0.2)."""
        every_s = request.every_s
        while True:
            await say(_fleet(agent, names(agent, request.targets)))
            await asyncio.sleep(every_s)

    return {requests.Watch: watch}


def _fleet(agent: Agent, chosen: Sequence[str]) -> responses.FleetStatus:
    states, now_s = agent.fleet.snapshot(), agent.clock.monotonic()
    return shapes.fleet_document(
        agent.config.agent.name, agent.clock.wall_us(),
        (
            shapes.ups_document(agent.fleet.options(name), states[name], now_s, forced=agent.forced.is_set(name, Client()))
            for name in chosen
        ),
    )  # fmt: skip
