"""The FastAPI application of one agent: every router, and what holds for all of them."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import qxfleet
from qxfleet.agent.agent import Agent
from qxfleet.api.door import Door
from qxfleet.interfaces.http import App, Message, Receive, Send
from qxfleet.interfaces.metrics import Metrics
from qxfleet.interfaces.mirror import Mirror
from qxfleet.interfaces.web import pages
from qxfleet.interfaces.web.access import Access
from qxfleet.interfaces.web.api import batteries, battery_tests, events, fleet, history, orders, people, shutdown
from qxfleet.interfaces.web.live import Live
from qxfleet.interfaces.web.problems import handle_problems

LONGEST_BODY = 64 * 1024
"""Bytes; the longest thing anybody has to say is an order."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), usb=()"),
)

STRICT = (b"strict-transport-security", b"max-age=31536000")
"""Under TLS: a browser that was here once asks in no other way for a year (RFC 6797)."""

ABOUT = """\
Everything the command line knows and does, for programs.

**Logging in.** With a token made by `qxfleet token create` (`Authorization: Bearer qxf_…`), or with name and password of a
`[[user]]`. What somebody may do stands in the user's `allow`. Where no user is configured, everybody may read and nobody may do
anything else.

**Values** are numbers in the variable's unit, under NUT's names; text where the variable is text. What is not known is absent or
null. **Times** are UTC, ISO 8601 with `Z`.

**Errors** are RFC 9457 problem documents; `type` tells programs what it was.

**Orders** wait for what becomes of them: 200 the UPS accepted it, 202 it was sent and nothing shows that the UPS acted, 409 the
UPS refused it, 404 it has no such command or setting, 504 it gave no answer. None is repeated by itself.
"""

TAGS = [
    {"name": "fleet", "description": "How UPSes stand."},
    {"name": "commands and settings", "description": "Having a UPS do something."},
    {"name": "history", "description": "What was measured."},
    {"name": "events", "description": "What happened, and who did what."},
    {"name": "batteries", "description": "What the batteries are worth."},
    {"name": "battery tests", "description": "Tests of batteries."},
    {"name": "shutdown", "description": "The staged shutdown."},
    {"name": "users and tokens", "description": "Who may do what."},
]


def application(agent: Agent, metrics: Metrics) -> App:
    """The whole application. Takes a moment: not for the loop."""
    pages.compile_templates()
    app = FastAPI(
        title="qxfleet", version=qxfleet.__version__, description=ABOUT, openapi_tags=TAGS,
        openapi_url="/api/v1/openapi.json", docs_url=None, redoc_url=None,
        license_info={"name": "MIT", "identifier": "MIT"}, redirect_slashes=False,
    )  # fmt: skip
    app.state.agent = agent
    app.state.access = Access(agent)
    app.state.live = Live(agent)
    app.state.judgements = metrics.judgements
    mirror: object = agent
    app.state.door = mirror if isinstance(mirror, Mirror) else Door(agent)
    handle_problems(app)
    app.add_exception_handler(pages.NotLoggedIn, pages.to_login)
    for module in (fleet, orders, history, events, batteries, battery_tests, shutdown, people):
        app.include_router(module.router)
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))

    @app.get("/metrics", include_in_schema=False)
    async def scrape(request: Request) -> Response:
        """The fleet for Prometheus; open to everybody who can reach it, as exporters are."""
        body, kind = await metrics.fleet(request.headers.get("accept", ""))
        return Response(body, media_type=kind)

    app.add_middleware(Guarded)
    return app


class Guarded:
    """Bounds what is read, and adds to every answer what keeps a browser from doing harm with it.

    Nothing but the shipped files is kept by caches.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        kept = b"max-age=86400" if scope["path"].startswith("/static/") else b"no-store"

        secure = [STRICT] if scope["scheme"] == "https" else []

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS, *secure, (b"cache-control", kept)]
            await send(message)

        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > LONGEST_BODY:
                raise HTTPException(413, f"a request's body is {LONGEST_BODY} bytes at most")
            return message

        await self._app(scope, bounded, guarded)
