"""The web page in a real Chromium: it shows the fleet, keeps itself up to date, acts with rights, and asks nobody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.interfaces.browser import Browser, Page, browser
from tests.interfaces.conftest import wait_for
from tests.interfaces.web_site import PASSWORDS, WebSite, program, web_site


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser(program("chromium", "chromium")) as made:
        yield made


@pytest.fixture(scope="module")
def site() -> Iterator[WebSite]:
    with web_site() as site:
        yield site


@pytest.fixture
def page(chromium: Browser, site: WebSite) -> Iterator[Page]:
    """A tab in which the operator is logged in; what it loaded came from the agent alone, and it complained about nothing."""
    page = chromium.page()
    page.open(f"{site.url}/")
    if page.run("location.pathname") == "/login":
        login(page, "operator", PASSWORDS["operator"])
    yield page
    hosts = {urlsplit(url).netloc for url in page.requests if not url.startswith("data:")}
    page.close()
    assert hosts == {urlsplit(site.url).netloc}
    assert page.complaints == []


def login(page: Page, name: str, password: str) -> None:
    page.run(f"document.querySelector('[name=name]').value = {name!r}")
    page.run(f"document.querySelector('[name=password]').value = {password!r}")
    page.run("document.querySelector('form.login button').click()")
    page.until("document.readyState === 'complete' && location.pathname !== '/login'", "logged in")


def badge(ups: str) -> str:
    return f"document.querySelector('tr[data-ups=\"{ups}\"] .badge').textContent"


def test_the_fleet_keeps_itself_up_to_date(page: Page, site: WebSite) -> None:
    names = page.run("[...document.querySelectorAll('tr[data-ups]')].map(row => row.dataset.ups)")
    assert names == ["ups-01", "ups-02", "ups-03"]
    page.until(f"{badge('ups-02')} === 'Online'")
    page.run("window.untouched = true")
    site.tell("mains off ups-02")
    try:
        page.until(f"{badge('ups-02')}.startsWith('On battery')", "the outage, without a reload")
        assert page.run("document.querySelector('.counts .bad b').textContent") == "1"
    finally:
        site.tell("mains on ups-02")
    page.until(f"{badge('ups-02')}.startsWith('Online')", "its end")
    assert page.run("window.untouched") is True
    page.run("document.querySelector('#group').value = 'feed-b'")
    page.run("document.querySelector('#group').dispatchEvent(new Event('input'))")
    assert page.run("[...document.querySelectorAll('tr[data-ups]')].filter(row => !row.hidden).length") == 1


def test_one_ups_has_charts_and_takes_orders(page: Page, site: WebSite) -> None:
    page.open(f"{site.url}/ups/ups-01")
    page.until("document.querySelectorAll('.chart canvas').length === 4", "four charts")
    page.run("document.querySelector('#all').open = true")
    page.until("document.querySelectorAll('#variables tbody tr').length > 10", "its variables")
    page.run("document.querySelector('form[data-command=\"beeper.toggle\"] button').click()")
    page.until("document.querySelector('#said').textContent.includes('accepted')", "the outcome of a command")
    (entry,) = [each for each in site.json("audit")["audit"] if each["name"] == "beeper.toggle"]
    assert (entry["who"], entry["outcome"]) == ("operator", "accepted")
    page.run("window.confirm = () => false")
    page.run("document.querySelector('form[data-command=\"test.battery.start.quick\"] button').click()")
    assert "test.battery.start.quick" not in {each["name"] for each in site.json("audit")["audit"]}


@pytest.mark.parametrize("path", ["/", "/ups/ups-01", "/batteries", "/tests", "/shutdown", "/events", "/audit"])
def test_every_page_fits_a_phone(page: Page, site: WebSite, path: str) -> None:
    page.size(390, 800, phone=True)
    page.open(f"{site.url}{path}")
    assert page.run("document.querySelector('h1').textContent.length > 2")
    assert page.run("document.documentElement.scrollWidth") <= 390


def test_a_reader_sees_and_cannot_act(chromium: Browser, site: WebSite) -> None:
    page = chromium.page()
    page.open(f"{site.url}/ups/ups-01")
    page.run("document.querySelector('form.who')?.submit()")
    page.until("location.pathname === '/login' && document.readyState === 'complete'", "logged out")
    page.open(f"{site.url}/login?next=/ups/ups-01")
    login(page, "reader", PASSWORDS["reader"])
    assert page.run("location.pathname") == "/ups/ups-01"
    assert page.run("document.querySelectorAll('form[data-command], form[data-setting]').length") == 0
    page.run("document.querySelector('form.who').submit()")
    page.until("location.pathname === '/login' && document.readyState === 'complete'", "logged out")
    page.close()


def test_the_login_leads_nowhere_else(site: WebSite) -> None:
    assert site.ask("/events?x=1", user=None).headers["location"] == "/login?next=/events%3Fx%3D1"
    body = b"name=operator&password=the+operator%27s&next=//evil.example/"
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    right = site.ask("/login", "POST", user=None, body=body, **form)
    assert (right.status, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    wrong = site.ask("/login", "POST", user=None, body=body.replace(b"the+", b"not+the+"), **form)
    assert wrong.status == 401 and b"wrong" in wrong.body
    assert site.ask("/login", "POST", user=None, body=body, Origin="http://evil.example", **form).status == 403
    session = cookie.partition(";")[0]
    assert site.api("/about", user=None, Cookie=session).json["you"] == "operator"
    refused = site.api("/ups/ups-01/commands/beeper.toggle", "POST", user=None, Cookie=session)
    assert refused.status == 403  # a browser names the page's origin; without it nobody knows whose wish that was


def test_every_page_says_that_the_state_takes_no_records(site: WebSite) -> None:
    body = b"name=operator&password=the+operator%27s"
    right = site.ask("/login", "POST", user=None, body=body, Content_Type="application/x-www-form-urlencoded")
    session = right.headers["set-cookie"].partition(";")[0]
    said = "the state takes no records since 20"
    with closing(sqlite3.connect(site.folder / "fleet.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert site.api("/ups/ups-01/commands/beeper.toggle", "POST").status == 200
        wait_for(lambda: said in site.ask("/", user=None, Cookie=session).text, "it is said", 30)
        shown = site.ask("/events", user=None, Cookie=session).text
        assert f"what happens is kept in {site.folder / 'fleet.db.spool'}" in shown
        other.execute("ROLLBACK")
    wait_for(lambda: said not in site.ask("/", user=None, Cookie=session).text, "it is over", 30)


def test_a_browser_is_told_what_a_page_may_do(site: WebSite) -> None:
    answer = site.ask("/login", user=None)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert site.ask("/static/uplot-LICENSE.txt", user=None).text.startswith("The MIT License")
