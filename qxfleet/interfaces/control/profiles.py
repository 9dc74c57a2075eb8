"""How far devices are from the profiles of the configuration, and bringing them there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from qxfleet.agent import profiles
from qxfleet.agent.agent import Agent
from qxfleet.config.profile import Profile
from qxfleet.interfaces import shapes
from qxfleet.interfaces.control.asking import Say, Stream, UnknownTarget, Verb
from qxfleet.interfaces.shapes import Document


def verbs(agent: Agent) -> Mapping[str, Verb]:
    """``profile-check``."""

    async def check(args: Document, actor: str) -> Document:
        """How far devices are from the profiles named, or from all."""
        chosen = [_profile(agent, name) for name in args.get("names") or ()] or agent.config.profiles
        return {"profiles": [shapes.profile_document(each, profiles.check(agent.fleet, each)) for each in chosen]}

    return {"profile-check": check}


def streams(agent: Agent) -> Mapping[str, Stream]:
    """``profile-apply``."""

    async def apply(args: Document, actor: str, say: Say) -> None:
        """Each setting as it ends, then how it ended; anything said meanwhile ends it behind the setting under way."""
        stop = asyncio.Event()
        work = asyncio.create_task(_apply(agent, args, actor, say, stop))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await work

    return {"profile-apply": apply}


async def _apply(agent: Agent, args: Document, actor: str, say: Say, stop: asyncio.Event) -> None:
    profile = _profile(agent, args["name"])
    go_on, refused = bool(args.get("go_on")) or profile.go_on, 0
    await say({"profile": profile.name, "ups": list(profile.upses), "settings": dict(profile.settings)})
    async for step in profiles.applying(agent.fleet, profile, actor=actor, go_on=go_on, stop=stop):
        refused += step.refused
        await say({"step": shapes.step_document(step)})
    ended = "stopped" if stop.is_set() else "refused" if refused and not go_on else "complete"
    await say({"ended": ended, "refused": refused})


def _profile(agent: Agent, name: object) -> Profile:
    """The profile of that name. Raises UnknownTarget."""
    for each in agent.config.profiles:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in agent.config.profiles)
    raise UnknownTarget(f"no profile is named {name!r}; {f'there are {known}' if known else 'none is configured'}")
