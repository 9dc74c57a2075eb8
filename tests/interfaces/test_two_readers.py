"""Two readers of one run: the page, the API and ``shutdown status`` say the same, in the same words, at every moment of it."""

from __future__ import annotations

import html
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.interfaces.browser import Page, browser
from tests.interfaces.test_web import login
from tests.interfaces.web_site import PASSWORDS, USERS, WebSite, program, web_site

PLAN = """
[shutdown]
armed = true
start_when = {{ low_battery = true }}
return = {{ charge_above = 1, mains_stable_for = "1s", unknown_charge_for = "1s" }}

[[load]]
name = "web"
fed_by = ["ups-01"]
stop = {{ command = ["true"] }}
start = {{ command = ["true"] }}
down_when = {{ exit = ["test", "-e", "{folder}/web.off"] }}
stop_time = "2m"

[[load]]
name = "app"
fed_by = ["ups-01"]
after = ["web"]
stop = {{ command = ["sh", "-c", "echo no route to app; false"] }}
start = {{ command = ["true"] }}
down_when = {{ exit = ["test", "-e", "{folder}/app.off"] }}
stop_time = "8s"

[[load]]
name = "blind"
fed_by = ["ups-01"]
after = ["app"]
stop = {{ command = ["true"] }}
stop_time = "3s"
"""


def words(text: str) -> str:
    """Without tags, and with every time alike: the readers don't look at the same second."""
    plain = html.unescape(re.sub(r"<[^>]+>", " ", text))
    return re.sub(r"\b\d+(\.\d+)? (s|min|h)\b", "N s", " ".join(plain.split()))


def sentences(document: dict[str, Any]) -> list[str]:
    """All that the document says to people."""
    said = [document["headline"][1:], *document["advice"].split("\n"), *document["by_hand"].values()]
    said += [document["run"]["says"]] if document["run"] else []
    for load in document["loads"]:
        said += [load["load"], load["stands"], load["says"]]
    for ups in document["upses"]:
        said += [ups["ups"], ups["stands"], ups["left"]]
    return [words(each) for each in said if each]


def read(site: WebSite, tab: Page) -> tuple[dict[str, Any], str, str]:
    """The API's document, the page and the command line's text, all of one state of things."""
    for _ in range(20):
        document = site.api("/shutdown").json
        page, text = shown(site, tab), words(site.run("shutdown", "status").stdout)
        again = site.api("/shutdown").json
        if sentences(document) == sentences(again):
            return document, page, text
    raise AssertionError(f"no moment of rest: {document}")


def shown(site: WebSite, tab: Page) -> str:
    """What a person reads on the page."""
    tab.open(f"{site.url}/shutdown")
    return words(str(tab.run("document.querySelector('main').textContent")))


def check(site: WebSite, tab: Page) -> dict[str, Any]:
    document, page, text = read(site, tab)
    for said in sentences(document):
        assert said in page, f"the page does not say: {said}\n{page}"
        assert said in text, f"the command line does not say: {said}\n{text}"
    return document


def when(site: WebSite, tab: Page, load: str, phase: str) -> dict[str, Any]:
    """The moment at which a load stands so, read by both."""
    end_s = time.monotonic() + 300
    while True:
        phases = {each["load"]: each["phase"] for each in site.api("/shutdown").json["loads"]}
        if phases.get(load) == phase:
            return check(site, tab)
        assert time.monotonic() < end_s, f"{load} is not {phase}: {phases}"
        time.sleep(0.5)


@pytest.mark.more
@pytest.mark.timeout(1200)
def test_page_and_command_line_say_the_same_at_every_moment(tmp_path: Path) -> None:
    with web_site(USERS + PLAN.format(folder=tmp_path)) as site, browser(program("chromium", "chromium")) as chromium:
        tab = chromium.page()
        tab.open(f"{site.url}/")
        login(tab, "operator", PASSWORDS["operator"])
        assert check(site, tab)["run"] is None
        begun = site.api("/shutdown/start", "POST", body={"targets": ["blind"]})
        assert begun.status == 202, begun.text
        run = begun.json["run"]
        when(site, tab, "web", "stopping")
        (tmp_path / "web.off").touch()
        stuck = when(site, tab, "app", "stuck")
        assert "app" in stuck["by_hand"] and "no route to app" in json.dumps(stuck["loads"])
        when(site, tab, "blind", "not-seen-off")
        assert tab.run("document.querySelectorAll('[data-path$=\"/end\"]').length") == 1
        assert site.api(f"/shutdown/runs/{run + 1}/end", "POST", body={}).status == 409
        reader = ("reader", "the reader's")
        assert site.api(f"/shutdown/runs/{run}/end", "POST", body={}, user=reader).status == 403
        ended = site.api(f"/shutdown/runs/{run}/end", "POST", body={"reason": "settled"})
        assert ended.status == 200, ended.text
        assert ended.json["text"].startswith("ended by http:operator@127.0.0.1: settled; 1 load stopped; no UPSes cut; app would")
        assert check(site, tab)["run"] is None
        assert words(ended.json["text"]) in shown(site, tab)
        assert words(ended.json["text"]) in words(site.run("shutdown", "history", run).stdout)
