"""The one door: answers requests, and says who may make them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from qxfleet.api import battery, events, fleet, outlook, profiles, shutdown, tests, tokens
from qxfleet.api.asking import Say, Stream, Verb
from qxfleet.errors import InternalError, QxfleetError

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.api.requests import Request

log = logging.getLogger(__name__)

R = TypeVar("R")

NOUNS = (fleet, battery, events, outlook, profiles, shutdown, tests, tokens)
"""Each offers ``verbs(agent)`` and ``streams(agent)``: what carries out its types of requests."""


class Door:
    """Carries requests out on one agent. ``failures`` counts those that ended by an error of our own, by request."""

    def __init__(self, agent: Agent) -> None:
        self._verbs: dict[type[Request[Any]], Verb] = {}
        self._streams: dict[type[Request[Any]], Stream] = {}
        self.failures: Counter[str] = Counter()
        for noun in NOUNS:
            self._verbs.update(noun.verbs(agent))
            self._streams.update(noun.streams(agent))

    async def do(self, request: Request[R], actor: str) -> R:
        """The answer. Raises QxfleetError: InternalError for what is our own fault, which is logged and counted here."""
        try:
            answer: R = await self._verbs[type(request)](request, actor)
            return answer
        except QxfleetError:
            raise
        except Exception as error:
            raise self._ours(request, error) from error

    async def begin(self, request: Request[R], actor: str) -> R:
        """The first item of a stream; what it began goes on by itself. Raises as :meth:`do`."""
        first: asyncio.Future[R] = asyncio.get_running_loop().create_future()

        async def say(item: R) -> None:
            if not first.done():
                first.set_result(item)

        following = asyncio.ensure_future(self.follow(request, actor, say))
        waited: set[asyncio.Future[Any]] = {following, first}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            following.result()
        following.cancel()
        await asyncio.wait({following})
        return first.result()

    async def follow(self, request: Request[R], actor: str, say: Say[R]) -> None:
        """Item after item to ``say``. Raises as :meth:`do`."""
        try:
            await self._streams[type(request)](request, actor, say)
        except (QxfleetError, ConnectionError, TimeoutError):
            raise  # TimeoutError and ConnectionError are the listener's: say waits for it
        except Exception as error:
            raise self._ours(request, error) from error

    def _ours(self, request: Request[Any], error: Exception) -> InternalError:
        self.failures[request.do] += 1
        log.error("%s failed by an error that is ours", request.do, exc_info=error)
        return InternalError(f"{request.do}: an error of qxfleet's own ({type(error).__name__}); the agent's log has more")
