"""The web page: made by the server from the same documents as the API, kept up to date by its streams."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.responses import Response

import qxfleet
from qxfleet.agent.shipping import Shipping
from qxfleet.api import requests, shapes
from qxfleet.api.battery_shapes import battery_document
from qxfleet.api.fleet_shapes import SILENT_S, fleet_document, shipping_document
from qxfleet.api.shapes import state_told
from qxfleet.battery.health import Verdict
from qxfleet.config.durations import duration_text
from qxfleet.errors import StoreError
from qxfleet.interfaces.turns import in_turns
from qxfleet.interfaces.web.access import COOKIE, SESSION_S, Visitor, access_of, address_of, known_host, same_origin
from qxfleet.interfaces.web.api.batteries import judgements_of
from qxfleet.interfaces.web.api.common import ThisAgent, ask
from qxfleet.interfaces.web.live import event_document, summary
from qxfleet.interfaces.web.problems import Problem
from qxfleet.store import fleet_view, history
from qxfleet.store.audit import trail

router = APIRouter(include_in_schema=False)

PAGES = (
    ("/", "Fleet"), ("/batteries", "Batteries"), ("/tests", "Tests"), ("/shutdown", "Shutdown"), ("/events", "Events"),
    ("/audit", "Audit"),
)  # fmt: skip
TONES = {
    "good": "good", "watch": "odd", "test due": "odd", "replace soon": "odd", "replace now": "bad",
    "passed": "good", "failed": "bad", "aborted": "odd", "no-effect": "bad", "inconclusive": "odd", "testing": "odd",
    "stuck": "bad", "not-seen-off": "bad", "down": "bad", "stopping": "odd", "back": "good", "stranded": "bad", "lost": "bad",
    "triggered": "bad", "telling": "bad", "told": "bad", "racing": "bad", "late": "bad",
    "off": "bad", "untold": "bad", "returned": "good",
}  # fmt: skip
"""Of words that verdicts and phases have; others are told without alarm."""
FIGURES = (
    ("input.voltage", "Input", " V", 1), ("output.voltage", "Output", " V", 1), ("ups.load", "Load", " %", 0),
    ("battery.charge", "Charge", " %", 0), ("battery.runtime", "Runtime", " s", 0), ("battery.voltage", "Battery", " V", 1),
    ("ups.temperature", "Temperature", " °C", 1),
)  # fmt: skip
AUDIT_US = 30 * 86_400 * 1_000_000
LONGEST_FORM = 8192

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True), trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip


def compile_templates() -> None:
    """Compile every template before the first page is asked for; not for the loop."""
    for name in _TEMPLATES.list_templates():
        _TEMPLATES.get_template(name)


class NotLoggedIn(Exception):
    """A page was asked for by nobody we know; the answer leads to the login."""


def reader(request: Request) -> Visitor:
    """Whoever looks at a page. Raises NotLoggedIn, and Problem 403 where they may not read."""
    access = access_of(request)
    found = access.by_cookie(request)
    if found is None and access.open and known_host(request):
        return Visitor(None, address_of(request))
    if found is None:
        raise NotLoggedIn
    if not found.may("read"):
        raise Problem(403, "forbidden", f"{found.name} may not read")
    return found


Reader = Annotated[Visitor, Depends(reader)]


async def page(request: Request, template: str, visitor: Visitor | None, status: int = 200, **facts: Any) -> HTMLResponse:
    """One page from its template."""
    config = request.app.state.agent.config
    facts |= {
        "agent": config.agent.name, "version": qxfleet.__version__, "visitor": visitor,
        "pages": PAGES if config.fleet is None else (*PAGES, ("/agents", "Agents")),
        "here": request.url.path, **state_told(request.app.state.agent),
    }  # fmt: skip
    return HTMLResponse("".join(await in_turns(_TEMPLATES.get_template(template).generate(facts))), status)


def to_login(request: Request, _error: Exception) -> Response:
    """Where somebody goes who is not logged in, and back afterwards."""
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(path)}", 303)


@router.get("/")
async def overview(request: Request, agent: ThisAgent, visitor: Reader) -> Response:
    """The fleet."""
    upses = await in_turns(_ups(agent, name) for name in tuple(agent.shown()))
    tones = Counter(ups["tone"] for ups in upses)
    counts = {tone: tones[tone] for tone in ("good", "odd", "bad", "gone")}
    groups = sorted({group for ups in upses for group in ups["groups"]})
    return await page(request, "fleet.html", visitor, upses=upses, counts=counts, groups=groups)


@router.get("/ups/{name}")
async def one(request: Request, agent: ThisAgent, visitor: Reader, name: str) -> Response:
    """One UPS."""
    if name not in agent.shown():
        return await page(request, "problem.html", visitor, 404, title="No such UPS", detail=f"No UPS is named {name}.")
    found = await agent.store.read(lambda connection: history.events(connection, [name], limit=20))
    commands = shapes.orders_document(name, agent.fleet.orders(name))["commands"]
    health = next((each for each in await judgements_of(request).known() if each.evidence.ups == name), None)
    return await page(
        request, "ups.html", visitor, ups=_ups(agent, name), figures=FIGURES, tones=TONES,
        battery=None if health is None else battery_document(health),
        commands=[each for each in commands if visitor.may_command(each["name"])],
        settings=shapes.settings_shape(agent.fleet.settings(name)) if visitor.may("set") else {},
        events=[event_document(stored.id, stored.event) for stored in reversed(found)],
    )  # fmt: skip


@router.get("/batteries")
async def batteries(request: Request, agent: ThisAgent, visitor: Reader) -> Response:
    """What the batteries are worth, the worst first."""
    found = [each for each in await judgements_of(request).known() if each.evidence.ups in agent.shown()]
    worst = list(Verdict)[::-1]
    found.sort(key=lambda each: worst.index(each.verdict))
    return await page(request, "batteries.html", visitor, batteries=[battery_document(each) for each in found], tones=TONES)


@router.get("/tests")
async def tests(request: Request, visitor: Reader) -> Response:
    """Battery tests that were, are and will be."""
    found = await ask(request, requests.TestResults(limit=100), visitor)
    return await page(
        request, "tests.html", visitor, tests=found["tests"][::-1], waves=found["waves"], tones=TONES,
        schedules=(await ask(request, requests.Schedules(), visitor))["schedules"],
        maintenance=(await ask(request, requests.Maintenance(), visitor))["maintenance"],
        may_test=visitor.may_command("test.battery.start"),
    )  # fmt: skip


@router.get("/shutdown")
async def shutdown(request: Request, visitor: Reader) -> Response:
    """How the staged shutdown stands."""
    plan = await ask(request, requests.ShutdownStatus(), visitor)
    runs = (await ask(request, requests.ShutdownHistory(most=20), visitor))["runs"]
    may_act = visitor.may("shutdown") and bool(plan["loads_configured"])
    return await page(request, "shutdown.html", visitor, plan=plan, runs=runs, may_act=may_act, tones=TONES)


@router.get("/events")
async def events(request: Request, agent: ThisAgent, visitor: Reader) -> Response:
    """What happened and happens."""
    found = await agent.store.read(lambda connection: history.events(connection, limit=200))
    documents = [event_document(stored.id, stored.event) for stored in reversed(found)]
    return await page(request, "events.html", visitor, events=documents, last=found[-1].id if found else 0)


@router.get("/audit")
async def audit(request: Request, agent: ThisAgent, visitor: Reader) -> Response:
    """Who did what."""
    since_us = agent.clock.wall_us() - AUDIT_US
    found = await agent.store.read(lambda connection: trail(connection, since_us, 500))
    return await page(request, "audit.html", visitor, entries=[shapes.audit_document(each) for each in reversed(found)])


@router.get("/agents")
async def agents(request: Request, agent: ThisAgent, visitor: Reader) -> Response:
    """Every UPS of every agent, as the fleet store knows them."""
    shipping = agent.part(Shipping)
    health = None if shipping is None else shipping.health()
    if shipping is None or health is None:
        text = "No [fleet] is configured: this agent stands alone."
        return await page(request, "problem.html", visitor, 404, title="No fleet", detail=text)
    wall_us = agent.clock.wall_us()
    try:
        known = await shipping.read(lambda connection: (fleet_view.agents(connection), fleet_view.upses(connection)))
        found, trouble = fleet_document(wall_us, *known), None
    except StoreError as error:
        found, trouble = fleet_document(wall_us, (), ()), str(error)
    return await page(
        request, "agents.html", visitor, fleet=found, trouble=trouble, shipping=shipping_document(health, wall_us),
        age=lambda seconds: duration_text(round(seconds)), silent_s=SILENT_S,
    )  # fmt: skip


@router.get("/login")
async def login_form(request: Request, next: str = "/") -> Response:
    """The form."""
    if access_of(request).open:
        return RedirectResponse("/", 303)
    return await page(request, "login.html", None, next=_ours(next), name="", wrong="")


@router.post("/login")
async def login(request: Request) -> Response:
    """Name and password become a session's cookie."""
    if not same_origin(request):
        raise Problem(403, "cross-origin", "log in on the page itself")
    form = await _form(request)
    name, following = form.get("name", ""), _ours(form.get("next", "/"))
    secret = await access_of(request).login(name, form.get("password", ""), address_of(request))
    if secret is None:
        wrong = "Name or password is wrong. Too many attempts: wait a few seconds."
        return await page(request, "login.html", None, 401, next=following, name=name, wrong=wrong)
    answer = RedirectResponse(following, 303)
    answer.set_cookie(
        COOKIE, secret, max_age=int(SESSION_S), httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return answer


@router.post("/logout")
async def logout(request: Request) -> Response:
    """The session ends."""
    if same_origin(request):
        access_of(request).logout(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _ups(agent: ThisAgent, name: str) -> dict[str, Any]:
    options, state = agent.fleet.options(name), agent.shown()[name]
    dialect = state.identity.dialect if state.identity else options.dialect
    about = {"description": options.description, "groups": list(options.groups), "dialect": dialect, "port": options.port}
    return {**summary(name, state), **about}


async def _form(request: Request) -> dict[str, str]:
    """The fields of a posted form."""
    body = await request.body()
    if len(body) > LONGEST_FORM:
        raise Problem(413, "content-too-large", "that is no login")
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _ours(path: str) -> str:
    """A path on this server; anything else would lead people who just logged in to a stranger."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
