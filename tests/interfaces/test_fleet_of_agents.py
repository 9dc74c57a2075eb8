"""All agents through one of them: followers and rules of the fleet store; a real agent ships to a real server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Postgres
from tests.interfaces.conftest import qxfleet
from tests.interfaces.test_cli_events import Follower
from tests.interfaces.web_site import USERS, WebSite, soon, web_site
from tests.store.test_shipper import fetch

pytestmark = pytest.mark.more


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> str:
    return postgres.create()


@pytest.fixture(scope="module")
def site(url: str) -> Iterator[WebSite]:
    with web_site(f'[fleet]\ndatabase = "{url}"\nsite = "hall-1"\n{USERS}') as site:
        soon(lambda: [each for each in shipped(site) if each["age_s"] is not None], "readings in the fleet store", 90)
        yield site


def shipped(site: WebSite) -> list[dict[str, Any]]:
    done = site.run("status", "--fleet", "--json")
    found: list[dict[str, Any]] = json.loads(done.stdout)["ups"] if done.returncode == 0 else []
    return found


def test_events_of_the_fleet_are_followed(site: WebSite, url: str) -> None:
    follower = Follower(site, "--fleet", "--json", "--since", "1h")
    ended = False
    try:
        first = json.loads(follower.line(40)[1])
        assert first["agent"] == "test"
        site.api("/ups/ups-02/commands/beeper.toggle", "POST")
        seen = first
        while (seen["name"], seen["ups"]) != ("beeper.toggle", "ups-02"):
            seen = json.loads(follower.line(40)[1])
        assert seen["agent"] == "test"
        code, said = follower.end(signal.SIGINT)
        ended = True
        assert (code, said) == (0, "")
    finally:
        if not ended:
            follower.end(signal.SIGKILL)


def test_an_agents_events_are_followed_once_each_whatever_the_order_of_commits(postgres: Postgres) -> None:
    """Two agents: the one that took its numbers first commits last."""
    import psycopg
    from sqlalchemy import make_url

    from qxfleet.store.fleet_view import Follower as Cursor
    from qxfleet.store.migrate import upgrade

    url = postgres.create()
    upgrade(url)
    at = {"host": str(postgres.folder), "user": "postgres", "dbname": make_url(url).database}
    put = (
        'INSERT INTO event (at, kind, name, value, text, severity, phase, agent_id, "row") '
        "VALUES (now(), 'agent', 'x', '', %s, 0, 'point', %s, %s)"
    )
    with psycopg.connect(**at) as slow, psycopg.connect(**at) as quick:
        for name in ("a", "b"):
            quick.execute("INSERT INTO agent (uuid, name, registered, seen) VALUES (%s, %s, now(), now())", [name, name])
        quick.execute(put, ["before", 1, 1])
        quick.commit()
        cursor = fetch(url, Cursor)
        slow.execute(put, ["late", 1, 2])  # its number is lower than the next one's, and not yet to be seen
        quick.execute(put, ["early", 2, 1])
        quick.commit()
        told = [fetch(url, cursor.news)]
        slow.commit()
        told += [fetch(url, cursor.news), fetch(url, cursor.news)]
    assert [[(name, each.event.text) for name, each in news] for news in told] == [[("b", "early")], [("a", "late")], []]


def test_the_fleet_store_keeps_what_it_is_told_once_for_the_whole_fleet(site: WebSite) -> None:
    changed = site.run("fleet", "retention", "--minutes", "400d", "--json")
    assert json.loads(changed.stdout)["minutes"] == "400d"
    assert "minutes 400d" in site.run("fleet", "status").stdout
    assert "the fleet store keeps raw 14d, minutes 400d" in site.run("check").stdout
    assert "the state keeps raw 14d, minutes 93d" in site.run("check").stdout
    assert json.loads(site.run("check", "--json").stdout)["retention"]["fleet"]["minutes"] == "400d"
    refused = site.run("fleet", "retention", "--raw", "500d")
    assert refused.returncode == 2
    said = " ".join(refused.stderr.replace("│", " ").split())
    assert "a coarser tier must be kept as long as the finer one" in said
    assert site.run("fleet", "retention", "--days", "1h").returncode == 2
    site.run("fleet", "retention", "--minutes", "730d")


def test_without_a_fleet_there_is_none_to_show() -> None:
    with web_site(count=1) as alone:
        refused = qxfleet("--config", alone.config, "events", "--fleet", "--follow")
        assert refused.returncode == 1
        assert "no [fleet] is configured: this agent stands alone" in refused.stderr
