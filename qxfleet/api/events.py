"""Events as they happen."""

from __future__ import annotations

from qxfleet.agent.agent import Agent
from qxfleet.api import requests, responses, shapes
from qxfleet.api.asking import Say, Streams, TooSlow, Verbs, names
from qxfleet.model.events import Event

BACKLOG_EVENTS = 1000
"""Events kept for a follower that is slower than they come; beyond it the follower is dropped."""

STORED_WITHIN_S = 1.0
"""How long an event is held back for its commit, which takes milliseconds as a rule; then being told is worth more."""


def verbs(agent: Agent) -> Verbs:
    """None: events that were are read from the database."""
    return {}


def streams(agent: Agent) -> Streams:
    """``follow``."""

    async def follow(
        request: requests.Follow, actor: str, say: Say[responses.FollowItem | responses.EventFollowed]
    ) -> None:
        """Events from now on; those of the agent itself too unless targets are named.

        What is shown is stored. An event that the database does not take in time is shown as not stored rather than late.
        """
        wanted = frozenset(names(agent, request.targets)) if request.targets else None
        subscription = agent.bus.subscribe(Event, limit=BACKLOG_EVENTS)
        try:
            await say({"following": agent.config.agent.name})
            async for event in subscription:
                if subscription.dropped:
                    text = f"too slow: more than {BACKLOG_EVENTS} events were waiting, {subscription.dropped} are lost"
                    raise TooSlow(f"{text}; `qxfleet events --since` has them all")
                events = [event, *subscription.take()]
                stored = await agent.store.settled(STORED_WITHIN_S)
                if not stored and not subscription.dropped:
                    events += subscription.take()  # came while we waited, and shall not wait as long again
                for event in events:
                    if wanted is None or event.ups in wanted:
                        await say(shapes.event_item(event, stored=stored))
        finally:
            agent.bus.unsubscribe(subscription)

    return {requests.Follow: follow}
