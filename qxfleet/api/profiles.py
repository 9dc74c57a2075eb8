"""How far devices are from the profiles of the configuration, and bringing them there."""

from __future__ import annotations

import asyncio
from typing import Literal

from qxfleet.agent import profiles
from qxfleet.agent.agent import Agent
from qxfleet.api import requests, responses, shapes
from qxfleet.api.asking import Say, Streams, UnknownTarget, Verbs
from qxfleet.config.profile import Profile


def verbs(agent: Agent) -> Verbs:
    """``profile-check``."""

    async def check(request: requests.ProfileCheck, actor: str) -> responses.Profiles:
        """How far devices are from the profiles named, or from all."""
        chosen = [_profile(agent, name) for name in request.names] or agent.config.profiles
        return {"profiles": [shapes.profile_document(each, profiles.check(agent.fleet, each)) for each in chosen]}

    return {requests.ProfileCheck: check}


def streams(agent: Agent) -> Streams:
    """``profile-apply``."""

    async def apply(request: requests.ProfileApply, actor: str, say: Say[responses.Applied]) -> None:
        """Each setting as it ends, then how it ended; anything said meanwhile ends it behind the setting under way."""
        stop = asyncio.Event()
        work = asyncio.create_task(_apply(agent, request, actor, say, stop))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await work

    return {requests.ProfileApply: apply}


async def _apply(
    agent: Agent, request: requests.ProfileApply, actor: str, say: Say[responses.Applied], stop: asyncio.Event
) -> None:
    profile = _profile(agent, request.name)
    go_on, refused = request.go_on or profile.go_on, 0
    await say({"profile": profile.name, "ups": list(profile.upses), "settings": dict(profile.settings)})
    async for step in profiles.applying(agent.fleet, profile, actor=actor, go_on=go_on, stop=stop):
        refused += step.refused
        await say({"step": shapes.step_document(step)})
    in_whole: Literal["refused", "complete"] = "refused" if refused and not go_on else "complete"
    await say({"ended": "stopped" if stop.is_set() else in_whole, "refused": refused})


def _profile(agent: Agent, name: object) -> Profile:
    """The profile of that name. Raises UnknownTarget."""
    for each in agent.config.profiles:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in agent.config.profiles)
    raise UnknownTarget(f"no profile is named {name!r}; {f'there are {known}' if known else 'none is configured'}")
