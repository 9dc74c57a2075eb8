"""What happened, and what happens."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Query, Request
from starlette.responses import StreamingResponse

from qxfleet.api import responses, shapes
from qxfleet.interfaces.web.access import Reader, access_of
from qxfleet.interfaces.web.api.common import ThisAgent, ThisLive, routes
from qxfleet.interfaces.web.api.fleet import Targets, chosen_names
from qxfleet.interfaces.web.live import event_document, stream
from qxfleet.interfaces.web.moments import Moment, moment_us
from qxfleet.interfaces.web.problems import documented
from qxfleet.store import history
from qxfleet.store.audit import trail

router = routes("events")

HIGHEST_ID = 2**53
"""What every JSON reader can hold."""

Since = Annotated[Moment | None, Query(description="ISO 8601, or how long ago: `30d`, `12h`.", examples=["24h"])]
Limit = Annotated[int, Query(ge=1, le=10_000, description="The last so many.")]
After = Annotated[int | None, Query(ge=0, le=HIGHEST_ID, description="Events with a higher number, the first `limit` of them.")]


@router.get("/events", response_model=responses.Events, operation_id="events", responses=documented(404))
async def events(
    agent: ThisAgent, visitor: Reader, targets: Targets = None, since: Since = None, after: After = None, limit: Limit = 1000
) -> responses.Events:
    """What happened, oldest first: of the targets, or of every UPS and the agent itself."""
    names = chosen_names(agent, targets) if targets else None
    since_us = None if since is None else moment_us(since, agent.clock.wall_us())
    found = await agent.store.read(lambda connection: history.events(connection, names, since_us, limit, after))
    return {"events": [event_document(stored.id, stored.event) for stored in found]}


@router.get(
    "/events/stream", operation_id="events-stream", response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events"},
               **documented(404, 503)},
)  # fmt: skip
async def events_stream(
    request: Request, agent: ThisAgent, live: ThisLive, visitor: Reader, targets: Targets = None, after: After = None,
    last_event_id: Annotated[str | None, Header(max_length=20, description="What a browser sends when it comes back.")] = None,
) -> Any:  # fmt: skip
    """Events as they happen: messages `event` whose data is one event as `/events` has it, and whose id is its number.

    Coming back with `Last-Event-ID`, or with `after`, misses nothing.
    """
    live.check_room(visitor.listener)
    names = chosen_names(agent, targets) if targets else None
    if last_event_id and last_event_id.isdecimal():
        after = min(int(last_event_id), HIGHEST_ID)
    return stream(live.events(after, names, visitor.listener), access_of(request).still(request, visitor))


@router.get("/audit", response_model=responses.Audit, operation_id="audit")
async def audit(agent: ThisAgent, visitor: Reader, since: Since = None, limit: Limit = 1000) -> responses.Audit:
    """Who did what, from where, and what became of it, oldest first."""
    since_us = None if since is None else moment_us(since, agent.clock.wall_us())
    entries = await agent.store.read(lambda connection: trail(connection, since_us, limit))
    return {"audit": [shapes.audit_document(entry) for entry in entries]}
