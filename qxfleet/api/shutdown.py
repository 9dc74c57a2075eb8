"""What may be asked of the staged shutdown: how it stands, what was, arming, starting, cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from qxfleet.agent import audit
from qxfleet.agent.agent import Agent
from qxfleet.api import requests, responses
from qxfleet.api.asking import Say, Streams, UnknownTarget, Verbs
from qxfleet.api.shutdown_shapes import arming, part_of, report, status_document
from qxfleet.errors import OrderNotSupported, PlanError
from qxfleet.shutdown.model import Ordered
from qxfleet.shutdown.run import StagedShutdown
from qxfleet.store import shutdown as stored


def verbs(agent: Agent) -> Verbs:
    """``shutdown-status``, ``-preview``, ``-start``, ``-cancel``, ``-end``, ``-arm``, ``-history``."""

    async def status(request: requests.ShutdownStatus, actor: str) -> responses.Shutdown:
        return status_document(agent)

    async def preview(request: requests.ShutdownPreview, actor: str) -> responses.Preview:
        """What ``start`` with these targets would stop."""
        part = part_of(agent)
        loads = loads_meant(agent, part, request.targets)
        return {"loads": sorted(loads), "armed": part.armed, "running": part.running, "agent": agent.config.agent.name}

    async def start(request: requests.ShutdownStart, actor: str) -> responses.ShutdownStarted:
        part = part_of(agent)
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

    async def cancel(request: requests.ShutdownCancel, actor: str) -> responses.Cancelled:
        text = await part_of(agent).cancel(actor)
        await audit.record(agent, actor, audit.Act.SHUTDOWN, "", "shutdown.cancel", audit.ACCEPTED, text=text)
        return {"text": text}

    async def end(request: requests.ShutdownEnd, actor: str) -> responses.ShutdownEnded:
        run, reason = request.run, request.reason
        try:
            text = await part_of(agent).end(run, actor, reason)
        except PlanError as error:
            await audit.record(agent, actor, audit.Act.SHUTDOWN, str(run), "shutdown.end", audit.REJECTED, text=str(error))
            raise
        await audit.record(agent, actor, audit.Act.SHUTDOWN, str(run), "shutdown.end", audit.ACCEPTED, text=text)
        return {"run": run, "text": text}

    async def arm(request: requests.ShutdownArm, actor: str) -> responses.Armed:
        part, armed = part_of(agent), request.armed
        kept = await part.arm(armed, actor, request.reason)
        word = "arm" if armed else "disarm"
        await audit.record(agent, actor, audit.Act.ARM, "", f"shutdown.{word}", audit.ACCEPTED, text=request.reason)
        return {**arming(part), "running_armed": part.running and part.record.armed, "kept": kept}

    async def history(request: requests.ShutdownHistory, actor: str) -> responses.Runs:
        part, run_id, most = part_of(agent), request.run, request.most
        if run_id is None:
            runs = await agent.store.read(lambda connection: stored.runs(connection, most))
        else:
            found = await agent.store.read(lambda connection: stored.run(connection, run_id))
            if found is None:
                raise UnknownTarget(f"there is no run {run_id}; `qxfleet shutdown history` lists them")
            runs = [found]
        return {"runs": [report(run, part.plan.named) for run in runs]}

    return {
        requests.ShutdownStatus: status, requests.ShutdownPreview: preview, requests.ShutdownStart: start,
        requests.ShutdownCancel: cancel, requests.ShutdownEnd: end, requests.ShutdownArm: arm, requests.ShutdownHistory: history,
    }  # fmt: skip


def streams(agent: Agent) -> Streams:
    """``shutdown-follow``."""

    async def follow(request: requests.ShutdownFollow, actor: str, say: Say[responses.Shutdown]) -> None:
        """How it stands, again and again: every ``every_s`` seconds (1 by default, at least 0.2)."""
        every_s = request.every_s
        while True:
            await say(status_document(agent))
            await asyncio.sleep(every_s)

    return {requests.ShutdownFollow: follow}


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
