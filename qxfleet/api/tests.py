"""Battery tests, schedules and maintenance: what may be asked and done over the control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from qxfleet.agent import audit
from qxfleet.agent.agent import Agent
from qxfleet.agent.audit import Act
from qxfleet.agent.maintenance import Maintenance
from qxfleet.api import requests, responses
from qxfleet.api.asking import Say, Streams, UnknownTarget, Verbs, names
from qxfleet.config.schedules import Schedule
from qxfleet.model.clock import iso
from qxfleet.model.selftest import Asked, Rules
from qxfleet.selftest.calendar import Calendar
from qxfleet.selftest.report import document
from qxfleet.selftest.run import BatteryTests, Foreseen, Wave
from qxfleet.store import tests as stored
from qxfleet.store.tests import StoredMember

P = TypeVar("P")

LOOK_S = 0.3
STILL_S = 10.0
"""A follower of a wave hears something at least this often."""


def verbs(agent: Agent) -> Verbs:
    """What each is called stands at the end; those that begin tests are streams."""

    async def test_foresee(request: requests.TestForesee, actor: str) -> responses.Foreseen:
        upses, asked, rules = names(agent, request.targets), _asked(request), _rules(agent, request)
        return _foreseen("", asked, rules, _tests(agent).foresee(upses, asked, rules), None)

    async def test_stop(request: requests.TestStop, actor: str) -> responses.Stopped:
        stopped = await _tests(agent).stop_tests(names(agent, request.targets), actor)
        for ups in stopped:
            await audit.record(agent, actor, Act.TEST, ups, "test-stop", audit.ACCEPTED)
        return {"stopped": list(stopped)}

    async def test_results(request: requests.TestResults, actor: str) -> responses.Tests:
        chosen = names(agent, request.targets) if request.targets else None
        query = partial(stored.tests, ups=chosen, since_us=request.since_us, limit=request.limit)
        rows = [cast(responses.Test, document(test)) for test in await agent.store.read(query)]
        if request.curve:
            for row in rows:
                curve = await agent.store.read(partial(stored.points, test_id=row["id"]))
                row["curve"] = [{"time": iso(each.at_us), "status": each.status, **each.values} for each in curve]
        return {"tests": rows, "waves": [_wave(each) for each in _tests(agent).waves().values()]}

    async def schedules(request: requests.Schedules, actor: str) -> responses.Schedules:
        calendar = _calendar(agent)
        return {"schedules": [
            {
                "name": due.schedule.name, "do": due.schedule.do, "what": due.schedule.what, "cron": due.schedule.cron,
                "timezone": due.schedule.timezone, "ups": list(due.schedule.upses), "window_s": due.schedule.window_s,
                "missed": due.schedule.missed, "next": [iso(each) for each in due.next_us],
                "last": None if due.last_us is None else iso(due.last_us),
            }
            for due in calendar.due()
        ]}  # fmt: skip

    async def schedule_foresee(request: requests.ScheduleForesee, actor: str) -> responses.Foreseen | responses.ScheduledAct:
        schedule = _schedule(agent, request.name)
        if schedule.do != "test":
            return {"schedule": schedule.name, "do": schedule.do, "what": schedule.what, "ups": list(schedule.upses)}
        foreseen = _tests(agent).foresee(schedule.upses, schedule.test, schedule.rules)
        return {"do": "test", **_foreseen(schedule.name, schedule.test, schedule.rules, foreseen, schedule.window_s)}

    async def schedule_act(request: requests.ScheduleAct, actor: str) -> responses.ScheduledAct:
        schedule = _schedule(agent, request.name)
        if schedule.do == "test":
            raise UnknownTarget(f"{schedule.name} runs tests: they are followed as a stream")
        await _calendar(agent).run(schedule, agent.clock.wall_us(), actor)
        return {"schedule": schedule.name, "do": schedule.do, "what": schedule.what, "ups": list(schedule.upses)}

    async def maintenance(request: requests.Maintenance, actor: str) -> responses.Maintenance:
        windows = _maintenance(agent).all().values()
        return {"maintenance": [
            {
                "ups": each.ups, "since": iso(each.since_us), "until": None if each.until_us is None else iso(each.until_us),
                "actor": each.actor, "reason": each.reason,
            }
            for each in windows
        ]}  # fmt: skip

    async def maintenance_start(request: requests.MaintenanceStart, actor: str) -> responses.Begun:
        upses, reason = names(agent, request.targets), request.reason
        await _maintenance(agent).begin(upses, request.for_s, reason, actor)
        for ups in upses:
            await audit.record(agent, actor, Act.MAINTENANCE, ups, "maintenance-start", audit.ACCEPTED, text=reason)
        return {"started": list(upses)}

    async def maintenance_stop(request: requests.MaintenanceStop, actor: str) -> responses.Stopped:
        stopped = await _maintenance(agent).end(names(agent, request.targets), actor)
        for ups in stopped:
            await audit.record(agent, actor, Act.MAINTENANCE, ups, "maintenance-stop", audit.ACCEPTED)
        return {"stopped": list(stopped)}

    return {
        requests.TestForesee: test_foresee, requests.TestStop: test_stop, requests.TestResults: test_results,
        requests.Schedules: schedules, requests.ScheduleForesee: schedule_foresee, requests.ScheduleAct: schedule_act,
        requests.Maintenance: maintenance, requests.MaintenanceStart: maintenance_start,
        requests.MaintenanceStop: maintenance_stop,
    }  # fmt: skip


def streams(agent: Agent) -> Streams:
    """``test-start``, ``schedule-run``: a wave, member after member, to its end. Hanging up does not end the wave."""

    async def test_start(request: requests.TestStart, actor: str, say: Say[responses.WaveItem]) -> None:
        upses, asked = names(agent, request.targets), _asked(request)
        wave = await _tests(agent).begin_wave(upses, asked, _rules(agent, request), actor)
        await audit.record(agent, actor, Act.TEST, ",".join(request.targets), "test-start", audit.ACCEPTED, value=str(asked))
        await _follow(wave, say)

    async def schedule_run(request: requests.ScheduleRun, actor: str, say: Say[responses.WaveItem]) -> None:
        schedule = _schedule(agent, request.name)
        wave = await _calendar(agent).run(schedule, agent.clock.wall_us(), actor)
        if wave is None:
            raise UnknownTarget(f"{schedule.name} has a wave that is not over: `qxfleet test results` shows how far it is")
        await audit.record(agent, actor, Act.TEST, f"schedule {schedule.name}", "schedule-run", audit.ACCEPTED)
        await _follow(wave, say)

    return {requests.TestStart: test_start, requests.ScheduleRun: schedule_run}


async def _follow(wave: Wave, say: Say[responses.WaveItem]) -> None:
    """Every change of a member, and now and then that it goes on."""
    loop = asyncio.get_running_loop()
    await say({"wave": _wave(wave)})
    known: dict[str, StoredMember] = {}
    said_s = loop.time()
    while True:
        over = wave.done.is_set()
        for ups, member in wave.members.items():
            if member.state != "waiting" and known.get(ups) != member:
                known[ups] = member
                said_s = loop.time()
                await say({"member": _member(member)})
        if over:
            await say({"ended": wave.stored.outcome, "text": wave.stored.text, "wave": _wave(wave)})
            return
        if loop.time() - said_s > STILL_S:
            said_s = loop.time()
            await say({"waiting": dict(wave.reasons)})
        await asyncio.sleep(LOOK_S)


def _wave(wave: Wave) -> responses.Wave:
    row = wave.stored
    return {
        "id": row.id, "schedule": row.schedule or None, "test": str(row.asked), "actor": row.actor,
        "started": iso(row.started_us), "closes": None if row.closes_us is None else iso(row.closes_us),
        "outcome": row.outcome, "text": row.text,
        "ups": [_member(member) for member in wave.members.values()],
    }  # fmt: skip


def _member(member: StoredMember) -> responses.WaveMember:
    verdict, state = None if member.verdict is None else member.verdict.value, cast(responses.MemberState, member.state)
    return {"ups": member.ups, "state": state, "verdict": verdict, "text": member.text, "test": member.test_id}


def _foreseen(
    schedule: str, asked: Asked, rules: Rules, found: Sequence[Foreseen], window_s: float | None
) -> responses.Foreseen:
    tested = sum(not each.reasons for each in found)
    needs_s = max((each.over_s for each in found if each.over_s is not None), default=0.0)
    return {
        "schedule": schedule or None, "test": str(asked), "ups": [
            {"ups": each.ups, "tested": not each.reasons, "after": each.after or None, "reasons": list(each.reasons),
             "begins_in_s": each.in_s}
            for each in found
        ],
        "tested": tested, "not_tested": len(found) - tested, "max_parallel": rules.places(len(found)),
        "recharge_s": rules.recharge_s, "needs_s": needs_s, "window_s": window_s,
    }  # fmt: skip


def _asked(request: requests.TestForesee | requests.TestStart) -> Asked:
    return Asked(request.kind, request.for_s, request.depth_percent)


def _rules(agent: Agent, request: requests.TestForesee | requests.TestStart) -> Rules:
    """The rules of the configuration; ``force`` leaves what protects the load and drops the rest."""
    rules = _tests(agent).rules
    if request.max_parallel:
        rules = replace(rules, max_parallel=request.max_parallel)
    if not request.force:
        return rules
    return replace(
        rules, mains_stable_s=0.0, charged_s=0.0, load_steady_s=0.0, load_least_percent=0.0, no_alarm=False,
        partner_healthy=False, runtime_factor=0.0, runtime_known=False, again_after_failure=True,
    )  # fmt: skip


def _schedule(agent: Agent, name: Any) -> Schedule:
    found = _calendar(agent).named(str(name))
    if found is None:
        known = ", ".join(each.name for each in agent.config.schedules)
        raise UnknownTarget(f"no schedule is named {name!r}; {f'there are {known}' if known else 'none is configured'}")
    return found


def _tests(agent: Agent) -> BatteryTests:
    return _part(agent, BatteryTests)


def _calendar(agent: Agent) -> Calendar:
    return _part(agent, Calendar)


def _maintenance(agent: Agent) -> Maintenance:
    return _part(agent, Maintenance)


def _part(agent: Agent, kind: type[P]) -> P:
    found = agent.part(kind)
    assert found is not None, f"the agent runs without {kind.__name__}"
    return found
