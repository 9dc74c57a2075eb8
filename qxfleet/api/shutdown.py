"""What may be asked of the staged shutdown: how it stands, what was, arming, starting, cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from qxfleet.agent import audit
from qxfleet.agent.agent import Agent
from qxfleet.api import requests
from qxfleet.api.asking import Say, Streams, UnknownTarget, Verbs
from qxfleet.api.shapes import Document, state_told
from qxfleet.errors import OrderNotSupported, PlanError
from qxfleet.model.clock import iso
from qxfleet.shutdown import telling
from qxfleet.shutdown.model import Ordered
from qxfleet.shutdown.record import Scale
from qxfleet.shutdown.run import StagedShutdown
from qxfleet.store import shutdown as stored


def verbs(agent: Agent) -> Verbs:
    """``shutdown-status``, ``-preview``, ``-start``, ``-cancel``, ``-end``, ``-arm``, ``-history``."""

    async def status(request: requests.ShutdownStatus, actor: str) -> Document:
        return status_document(agent)

    async def preview(request: requests.ShutdownPreview, actor: str) -> Document:
        """What ``start`` with these targets would stop."""
        part = _part(agent)
        loads = loads_meant(agent, part, request.targets)
        return {"loads": sorted(loads), "armed": part.armed, "running": part.running, "agent": agent.config.agent.name}

    async def start(request: requests.ShutdownStart, actor: str) -> Document:
        part = _part(agent)
        drill, target = request.drill, " ".join(request.targets)
        name = "shutdown.drill" if drill else "shutdown.start"
        try:
            loads = loads_meant(agent, part, request.targets)
            await part.order(Ordered(loads, actor, cut=request.cut, drill=drill))
        except PlanError as error:
            await audit.record(agent, actor, audit.Act.SHUTDOWN, target, name, audit.REJECTED, text=str(error))
            raise
        await audit.record(agent, actor, audit.Act.SHUTDOWN, target, name, audit.ACCEPTED, text=", ".join(sorted(loads)))
        return {"run": part.run_id, "loads": sorted(loads), "armed": part.record.armed}

    async def cancel(request: requests.ShutdownCancel, actor: str) -> Document:
        text = await _part(agent).cancel(actor)
        await audit.record(agent, actor, audit.Act.SHUTDOWN, "", "shutdown.cancel", audit.ACCEPTED, text=text)
        return {"text": text}

    async def end(request: requests.ShutdownEnd, actor: str) -> Document:
        run, reason = request.run, request.reason
        try:
            text = await _part(agent).end(run, actor, reason)
        except PlanError as error:
            await audit.record(agent, actor, audit.Act.SHUTDOWN, str(run), "shutdown.end", audit.REJECTED, text=str(error))
            raise
        await audit.record(agent, actor, audit.Act.SHUTDOWN, str(run), "shutdown.end", audit.ACCEPTED, text=text)
        return {"run": run, "text": text}

    async def arm(request: requests.ShutdownArm, actor: str) -> Document:
        part, armed = _part(agent), request.armed
        await part.arm(armed, actor, request.reason)
        word = "arm" if armed else "disarm"
        await audit.record(agent, actor, audit.Act.ARM, "", f"shutdown.{word}", audit.ACCEPTED, text=request.reason)
        return {**_arming(agent, part), "running_armed": part.running and part.record.armed}

    async def history(request: requests.ShutdownHistory, actor: str) -> Document:
        part, run_id, most = _part(agent), request.run, request.most
        if run_id is None:
            runs = await agent.store.read(lambda connection: stored.runs(connection, most))
        else:
            found = await agent.store.read(lambda connection: stored.run(connection, run_id))
            if found is None:
                raise UnknownTarget(f"there is no run {run_id}; `qxfleet shutdown history` lists them")
            runs = [found]
        return {"runs": [telling.report(run, part.plan.named) for run in runs]}

    return {
        requests.ShutdownStatus: status, requests.ShutdownPreview: preview, requests.ShutdownStart: start,
        requests.ShutdownCancel: cancel, requests.ShutdownEnd: end, requests.ShutdownArm: arm, requests.ShutdownHistory: history,
    }  # fmt: skip


def streams(agent: Agent) -> Streams:
    """``shutdown-follow``."""

    async def follow(request: requests.ShutdownFollow, actor: str, say: Say) -> None:
        """How it stands, again and again: every ``every_s`` seconds (1 by default, at least 0.2)."""
        every_s = request.every_s
        while True:
            await say(status_document(agent))
            await asyncio.sleep(every_s)

    return {requests.ShutdownFollow: follow}


def status_document(agent: Agent) -> Document:
    """How the staged shutdown stands now, as every face shows it. Raises PlanError where the agent runs none."""
    part = _part(agent)
    run, scale = None, Scale.of(agent.clock)
    if part.running:
        ordered, taken = part.record.ordered, part.record.taken
        run = {
            "run": part.run_id, "began": iso(scale.wall_us(taken[0].begun_s)) if taken else None,
            "for_s": round(scale.now_s - taken[0].begun_s, 1) if taken else None, "steps": len(taken),
            "armed": part.record.armed, "cancelled": part.record.cancelled,
            "ordered_by": ordered.actor if ordered else None, "drill": bool(ordered and ordered.drill),
        }  # fmt: skip
    document = telling.document(
        part.plan, part.record, part.decision, part.world, scale, run=run, arming=_arming(agent, part),
        forced={flag.ups: flags.actor for flag, flags in agent.forced.all().items() if not flag.load},
    )  # fmt: skip
    return {"agent": agent.config.agent.name, "time": iso(scale.now_us), **document, **state_told(agent)}


def loads_meant(agent: Agent, part: StagedShutdown, targets: Sequence[str]) -> frozenset[str]:
    """Loads by their own names, or those that could not live without the UPSes named. Raises UnknownTarget, and PlanError where
    these are none."""
    loads: set[str] = set()
    upses: set[str] = set()
    for target in targets:
        if target in part.plan.named:
            loads.add(target)
            continue
        try:
            upses.update(agent.fleet.select(target))
        except OrderNotSupported as error:
            raise UnknownTarget(f"no load and no UPS is meant by {target!r}: {error}") from error
    for load in part.plan.loads:
        left = sum(ups not in upses for ups in load.fed_by)
        if upses.intersection(load.fed_by) and left < load.needs_feeds:
            loads.add(load.name)
    if not loads:
        on = " ".join(targets)
        fed = any(upses.intersection(load.fed_by) for load in part.plan.loads)
        raise PlanError(
            f"each load on {on} has enough other feeds: there is nothing to stop; a load is stopped by its own name"
            if fed else f"no load hangs on {on}: there is nothing to stop"
        )  # fmt: skip
    return frozenset(loads)


def _arming(agent: Agent, part: StagedShutdown) -> Document:
    last = part.arming
    return {
        "armed": part.armed, "armed_by": last.actor if last else "the configuration",
        "armed_since": iso(last.at_us) if last else None, "armed_reason": last.reason if last else "",
    }  # fmt: skip


def _part(agent: Agent) -> StagedShutdown:
    part = agent.part(StagedShutdown)
    if part is None:
        raise PlanError("this agent runs no staged shutdown")
    return part
