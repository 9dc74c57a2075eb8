"""What may be asked of the fleet: how it stands, what a UPS can do, and orders to one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

import qxfleet
from qxfleet.agent.agent import Agent
from qxfleet.agent.forced import Client
from qxfleet.agent.shipping import Shipping
from qxfleet.interfaces import shapes
from qxfleet.interfaces.control.asking import Say, Stream, Verb, names, one
from qxfleet.interfaces.fleet_shapes import shipping_document
from qxfleet.interfaces.shapes import Document


def verbs(agent: Agent) -> Mapping[str, Verb]:
    """``about``, ``status``, ``vars``, ``commands``, ``settings``, ``command``, ``set``."""

    async def about(args: Document, actor: str) -> Document:
        return {"agent": agent.config.agent.name, "version": qxfleet.__version__, "pid": os.getpid(), "you": actor}

    async def status(args: Document, actor: str) -> Document:
        chosen = names(agent, args.get("targets"))
        found = _fleet(agent, chosen)
        shipping = agent.part(Shipping)
        if shipping is not None and (health := shipping.health()) is not None:
            found["fleet_store"] = shipping_document(health, agent.clock.wall_us())
        if not args.get("remedies"):
            return found
        states = agent.fleet.snapshot()
        remedies = {name: dict(states[name].remedies) for name in chosen if states[name].remedies}
        return {**found, "remedies": remedies}

    async def vars(args: Document, actor: str) -> Document:
        name = one(agent, args["ups"])
        state, forced = agent.fleet.snapshot()[name], agent.forced.is_set(name, Client())
        age_s = None if state.reading is None else agent.clock.monotonic() - state.reading.mono_s
        shown = shapes.vars_document(state, forced=forced)
        return {**shown, "state": state.link.value, "reason": state.link_reason, "age_s": age_s}

    async def commands(args: Document, actor: str) -> Document:
        name = one(agent, args["ups"])
        feeds = [load.name for load in agent.config.shutdown.fed.get(name, ())]
        return {**shapes.orders_document(name, agent.fleet.orders(name)), "feeds": feeds}

    async def settings(args: Document, actor: str) -> Document:
        name = one(agent, args["ups"])
        return shapes.settings_document(name, agent.fleet.settings(name))

    async def command(args: Document, actor: str) -> Document:
        name = one(agent, args["ups"])
        value = args.get("value")
        result = await agent.fleet.perform(name, str(args["name"]), None if value is None else str(value), actor=actor)
        return {**result.as_json(), "sent": result.sent, "text": result.text}

    async def set(args: Document, actor: str) -> Document:
        result = await agent.fleet.set(one(agent, args["ups"]), str(args["name"]), str(args["value"]), actor=actor)
        return {**result.as_json(), "sent": result.sent, "text": result.text}

    return {
        "about": about, "status": status, "vars": vars, "commands": commands, "settings": settings, "command": command,
        "set": set,
    }  # fmt: skip


def streams(agent: Agent) -> Mapping[str, Stream]:
    """``watch``."""

    async def watch(args: Document, actor: str, say: Say) -> None:
        """The fleet's status again and again, every ``every_s`` seconds (1 by default, at least 0.2)."""
        every_s = max(0.2, float(args.get("every_s", 1.0)))
        while True:
            await say(_fleet(agent, names(agent, args.get("targets"))))
            await asyncio.sleep(every_s)

    return {"watch": watch}


def _fleet(agent: Agent, chosen: Sequence[str]) -> Document:
    states, now_s = agent.fleet.snapshot(), agent.clock.monotonic()
    return shapes.fleet_document(
        agent.config.agent.name, agent.clock.wall_us(),
        (
            shapes.ups_document(agent.fleet.options(name), states[name], now_s, forced=agent.forced.is_set(name, Client()))
            for name in chosen
        ),
    )  # fmt: skip
