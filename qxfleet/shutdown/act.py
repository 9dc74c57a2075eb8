"""One step of a run carried out: which door it goes through, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from qxfleet.agent.fleet import Fleet
from qxfleet.agent.forced import Client, ForcedShutdown
from qxfleet.errors import OrderNotSupported
from qxfleet.model.events import OrderResult, Outcome
from qxfleet.model.loads import Command, Load, NutClients, Outlet, Plan, Start, Stop, WakeOnLan, Webhook
from qxfleet.shutdown.effects import Done, Effects
from qxfleet.shutdown.model import ACTOR, Act, Answer, Step

ANSWERS = {
    Outcome.ACCEPTED: Answer.ACCEPTED, Outcome.REJECTED: Answer.FAILED, Outcome.UNSUPPORTED: Answer.UNSUPPORTED,
    Outcome.NO_ANSWER: Answer.UNCONFIRMED, Outcome.UNCONFIRMED: Answer.UNCONFIRMED,
}  # fmt: skip

LATE_S = 5.0
"""Beyond a step's own limit: what is waited for the bookkeeping around it."""


class Doors:
    """Carries steps out. One that is not armed is described and not carried out."""

    def __init__(self, fleet: Fleet, forced: ForcedShutdown, effects: Effects) -> None:
        self._fleet = fleet
        self._forced = forced
        self._effects = effects

    async def act(self, step: Step, plan: Plan, *, armed: bool) -> tuple[Answer, str]:
        """What came of it, never later than the step's limit and a little; a line for people."""
        load = next((each for each in plan.loads if each.name == step.target), None)
        if not armed:
            return Answer.ACCEPTED, f"not armed: {described(step, load)}"
        try:
            async with asyncio.timeout(step.limit_s + LATE_S):
                return await self._act(step, load)
        except TimeoutError:
            return Answer.UNCONFIRMED, f"no end within {step.limit_s + LATE_S:g} s"

    async def _act(self, step: Step, load: Load | None) -> tuple[Answer, str]:
        if step.act is Act.CUT:
            delays = {"ups.delay.shutdown": step.offdelay_s} | ({} if step.stay_off else {"ups.delay.start": step.ondelay_s})
            return await self._order(step.target, "shutdown.stayoff" if step.stay_off else "shutdown.return", delays)
        if step.act is Act.CALL_BACK:
            return await self._order(step.target, "shutdown.stop")
        if step.act is Act.SWITCH_ON:
            return await self._order(step.target, "load.on")
        way = _way(step, load)
        match way:
            case Command(argv):
                return _answer(await self._effects.command(argv, step.limit_s))
            case Webhook():
                return _answer(await self._post(way, step))
            case WakeOnLan(mac, broadcast):
                done = await self._effects.wake(mac, broadcast)
                return (Answer.ACCEPTED if done.outcome is Outcome.UNCONFIRMED else Answer.FAILED), done.text
            case Outlet(ups, number):
                return await self._order(ups, f"outlet.{number}.load.{'off' if step.act is Act.STOP else 'on'}")
            case NutClients():
                assert load is not None
                return self._force(load, way)
            case None:
                return Answer.UNSUPPORTED, f"nothing is configured to {step.act.value} {step.target}"

    async def _order(self, ups: str, name: str, delays: Mapping[str, float] = {}) -> tuple[Answer, str]:
        try:
            result = await self._fleet.perform(ups, name, None, actor=ACTOR, delays=delays, must=True)
        except OrderNotSupported as error:
            return Answer.UNSUPPORTED, str(error)
        never_sent = not result.sent and result.outcome is not Outcome.UNSUPPORTED
        return (Answer.FAILED if never_sent else ANSWERS[result.outcome]), _told(result)

    async def _post(self, hook: Webhook, step: Step) -> Done:
        try:
            headers = {"Authorization": f"Bearer {_secret(hook.token_file)}"} if hook.token_file else {}
        except OSError as error:
            return Done(Outcome.REJECTED, f"{hook.token_file}: {error.strerror}: nothing was sent")
        body = {"load": step.target, "act": step.act.value, "reason": step.why}
        return await self._effects.webhook(hook.url, headers, body, step.limit_s)

    def _force(self, load: Load, clients: NutClients) -> tuple[Answer, str]:
        who = meant(clients)
        for ups in load.fed_by:
            self._forced.set(ups, ACTOR, who, load.name)
        known = [self._forced.logins(ups, who) for ups in load.fed_by]
        if all(logins is None for logins in known):
            return Answer.UNCONFIRMED, "FSD is set; who is logged in is not known, no NUT server runs or not for long enough"
        if not any(known):
            return Answer.FAILED, "none of its NUT clients is logged in: FSD is set, and nobody was told"
        told = sorted({client.address or client.user for logins in known for client in logins or ()})
        return Answer.ACCEPTED, f"FSD is set for {', '.join(load.fed_by)}; told: {', '.join(told)}"

    def hold(self, plan: Plan, forced: Mapping[str, frozenset[str]]) -> None:
        """Set and clear the plan's forced-shutdown flags so that they are these: loads, each with its UPSes."""
        for flag in tuple(self._forced.all()):
            if flag.load and flag.ups not in forced.get(flag.load, ()):
                self._forced.clear(flag.ups, ACTOR, flag.meant, flag.load)
        for name, upses in forced.items():
            stop = plan.named[name].stop
            if isinstance(stop, NutClients):
                for ups in sorted(upses):
                    self._forced.set(ups, ACTOR, meant(stop), name)


def meant(clients: NutClients) -> Client:
    """Whom a load's stop means."""
    return Client(clients.user, clients.address)


def described(step: Step, load: Load | None) -> str:
    """What a step would do, as an operator would say it."""
    match step.act:
        case Act.CUT if step.stay_off:
            return f"would tell {step.target} to cut its output in {step.offdelay_s:g} s and stay off"
        case Act.CUT:
            return f"would tell {step.target} to cut its output in {step.offdelay_s:g} s and to return {step.ondelay_s:g} s later"
        case Act.CALL_BACK:
            return f"would call back the cut of {step.target}"
        case Act.SWITCH_ON:
            return f"would switch on the output of {step.target}"
    match _way(step, load):
        case Command(argv):
            return f"would run {' '.join(argv)}"
        case Webhook(url):
            return f"would post to {url}"
        case WakeOnLan(mac, broadcast):
            return f"would send a magic packet for {mac} to {broadcast}"
        case Outlet(ups, number):
            return f"would switch outlet {number} of {ups} {'off' if step.act is Act.STOP else 'on'}"
        case NutClients() if load is not None:
            return f"would tell the NUT clients of {', '.join(load.fed_by)} to shut down"
        case _:
            return f"nothing is configured to {step.act.value} {step.target}"


def _secret(file: str) -> str:
    return Path(file).read_text().strip()


def _way(step: Step, load: Load | None) -> Stop | Start | None:
    if load is None:
        return None
    return load.stop if step.act is Act.STOP else load.start


def _answer(done: Done) -> tuple[Answer, str]:
    return ANSWERS[done.outcome], done.text


def _told(result: OrderResult) -> str:
    sent = f"sent {result.sent!r}" if result.sent else ""
    reply = f"answered {result.reply!r}" if result.reply is not None else ""
    return ", ".join(filter(None, (sent, reply, result.text)))
