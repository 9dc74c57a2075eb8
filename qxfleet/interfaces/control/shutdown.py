"""What may be asked of the staged shutdown: how it stands, what was, arming, starting, cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from qxfleet.agent import audit
from qxfleet.agent.agent import Agent
from qxfleet.errors import OrderNotSupported, PlanError
from qxfleet.interfaces.control.asking import Say, Stream, UnknownTarget, Verb
from qxfleet.interfaces.shapes import Document
from qxfleet.model.clock import iso
from qxfleet.shutdown import telling
from qxfleet.shutdown.model import Ordered
from qxfleet.shutdown.record import Scale
from qxfleet.shutdown.run import StagedShutdown
from qxfleet.store import shutdown as stored

MOST_RUNS = 1000


def verbs(agent: Agent) -> Mapping[str, Verb]:
    """``shutdown-status``, ``-preview``, ``-start``, ``-cancel``, ``-end``, ``-arm``, ``-history``."""

    async def status(args: Document, actor: str) -> Document:
        return status_document(agent)

    async def preview(args: Document, actor: str) -> Document:
        """What ``start`` with these targets would stop."""
        part = _part(agent)
        loads = loads_meant(agent, part, args["targets"])
        return {"loads": sorted(loads), "armed": part.armed, "running": part.running, "agent": agent.config.agent.name}

    async def start(args: Document, actor: str) -> Document:
        part = _part(agent)
        loads, drill = loads_meant(agent, part, args["targets"]), bool(args.get("drill"))
        target, name = " ".join(map(str, args["targets"])), "shutdown.drill" if drill else "shutdown.start"
        try:
            await part.order(Ordered(loads, actor, cut=bool(args.get("cut")), drill=drill))
        except PlanError as error:
            await audit.record(agent, actor, audit.Act.SHUTDOWN, target, name, audit.REJECTED, text=str(error))
            raise
        await audit.record(agent, actor, audit.Act.SHUTDOWN, target, name, audit.ACCEPTED, text=", ".join(sorted(loads)))
        return {"run": part.run_id, "loads": sorted(loads), "armed": part.record.armed}

    async def cancel(args: Document, actor: str) -> Document:
        text = await _part(agent).cancel(actor)
        await audit.record(agent, actor, audit.Act.SHUTDOWN, "", "shutdown.cancel", audit.ACCEPTED, text=text)
        return {"text": text}

    async def end(args: Document, actor: str) -> Document:
        run, reason = int(args["run"]), str(args.get("reason", ""))
        try:
            text = await _part(agent).end(run, actor, reason)
        except PlanError as error:
            await audit.record(agent, actor, audit.Act.SHUTDOWN, str(run), "shutdown.end", audit.REJECTED, text=str(error))
            raise
        await audit.record(agent, actor, audit.Act.SHUTDOWN, str(run), "shutdown.end", audit.ACCEPTED, text=text)
        return {"run": run, "text": text}

    async def arm(args: Document, actor: str) -> Document:
        part, armed = _part(agent), bool(args["armed"])
        await part.arm(armed, actor, str(args.get("reason", "")))
        word = "arm" if armed else "disarm"
        await audit.record(agent, actor, audit.Act.ARM, "", f"shutdown.{word}", audit.ACCEPTED, text=str(args.get("reason", "")))
        return {**_arming(agent, part), "running_armed": part.running and part.record.armed}

    async def history(args: Document, actor: str) -> Document:
        part, run_id, most = _part(agent), args.get("run"), min(MOST_RUNS, int(args.get("most", 20)))
        if run_id is None:
            runs = await agent.store.read(lambda connection: stored.runs(connection, most))
        else:
            found = await agent.store.read(lambda connection: stored.run(connection, int(run_id)))
            if found is None:
                raise UnknownTarget(f"there is no run {run_id}; `qxfleet shutdown history` lists them")
            runs = [found]
        return {"runs": [telling.report(run, part.plan.named) for run in runs]}

    return {
        "shutdown-status": status, "shutdown-preview": preview, "shutdown-start": start, "shutdown-cancel": cancel,
        "shutdown-end": end,
        "shutdown-arm": arm, "shutdown-history": history,
    }  # fmt: skip


def streams(agent: Agent) -> Mapping[str, Stream]:
    """``shutdown-follow``."""

    async def follow(args: Document, actor: str, say: Say) -> None:
        """How it stands, again and again: every ``every_s`` seconds (1 by default, at least 0.2)."""
        every_s = max(0.2, float(args.get("every_s", 1.0)))
        while True:
            await say(status_document(agent))
            await asyncio.sleep(every_s)

    return {"shutdown-follow": follow}


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
        part.plan, part.record, part.decision, part.world, scale, run=run, arming=_arming(agent, part)
    )
    return {"agent": agent.config.agent.name, "time": iso(scale.now_us), **document}


def loads_meant(agent: Agent, part: StagedShutdown, targets: object) -> frozenset[str]:
    """Loads by their own names, or those that could not live without the UPSes named. Raises UnknownTarget."""
    loads: set[str] = set()
    upses: set[str] = set()
    for target in targets if isinstance(targets, list) else ():
        if target in part.plan.named:
            loads.add(target)
            continue
        try:
            upses.update(agent.fleet.select(str(target)))
        except OrderNotSupported as error:
            raise UnknownTarget(f"no load and no UPS is meant by {target!r}: {error}") from error
    for load in part.plan.loads:
        left = sum(ups not in upses for ups in load.fed_by)
        if upses.intersection(load.fed_by) and left < load.needs_feeds:
            loads.add(load.name)
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
