"""The JSON API over real connections to a real agent: who may what, what is answered, what is written down."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interfaces.conftest import qxfleet, start, wait_for
from tests.interfaces.test_upsd import certificate
from tests.interfaces.web_site import READER, WebSite, free_port, soon, web_site

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def site() -> Iterator[WebSite]:
    with web_site() as site:
        yield site


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The members of RFC 9457, and which problem it is."""
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    document: dict[str, Any] = answer.json
    assert {"type", "title", "status", "detail", "instance"} <= document.keys()
    assert document["status"] == status
    assert document["type"].endswith(f"#{code}"), document
    return document


def trail(site: WebSite) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.json("audit")["audit"]
    return found


# -- who


def test_nobody_comes_in_without_a_login(site: WebSite) -> None:
    answer = site.api("/fleet", user=None)
    problem(answer, 401, "login")
    assert "Bearer" in answer.headers["www-authenticate"] and "Basic" in answer.headers["www-authenticate"]
    problem(site.api("/fleet", user=("operator", "a guess")), 401, "login")
    problem(site.api("/fleet", token="qxf_nobody"), 401, "login")
    refused = [entry for entry in trail(site) if entry["act"] == "login"]
    assert {entry["target"] for entry in refused} >= {"operator", "token"}
    assert {entry["outcome"] for entry in refused} == {"forbidden"}
    assert {entry["where"] for entry in refused} == {"http 127.0.0.1"}


def test_who_you_are_and_what_you_may(site: WebSite) -> None:
    assert site.api("/about").json["rights"] == ["command", "read", "set", "shutdown", "test"]
    you = site.api("/about", user=READER).json
    assert (you["you"], you["rights"], you["agent"]) == ("reader", ["read"], "test")
    assert [each["name"] for each in site.api("/users").json["users"]] == ["operator", "reader"]


def test_a_page_from_elsewhere_can_act_in_nobodys_name(site: WebSite) -> None:
    path = "/ups/ups-01/commands/beeper.toggle"
    problem(site.api(path, "POST", Origin="http://evil.example"), 403, "cross-origin")
    assert site.api(path, "POST", Origin=site.url).status == 200


# -- reading


def test_the_fleet_in_numbers_is_the_fleet_of_the_command_line(site: WebSite) -> None:
    document = site.api("/fleet").json
    status = {ups["name"]: ups for ups in site.json("status")["ups"]}
    assert [ups["name"] for ups in document["ups"]] == list(status)
    for ups in document["ups"]:
        assert ups["state"] == "online" and ups["status"] == status[ups["name"]]["status"]
        assert ups["variables"].keys() == status[ups["name"]]["variables"].keys()
        assert isinstance(ups["variables"]["input.voltage"], float)
        assert isinstance(ups["variables"]["ups.status"], str)
    assert [ups["name"] for ups in site.api("/fleet?target=group:feed-b").json["ups"]] == ["ups-02"]
    problem(site.api("/fleet?target=group:nowhere"), 404, "unknown-target")


def test_variables_say_their_unit_and_where_they_come_from(site: WebSite) -> None:
    variables = site.api("/ups/ups-01/variables").json["variables"]
    texts = site.json("vars", "ups-01")
    assert variables["battery.voltage.nominal"] == {
        "value": 48.0, "text": texts["variables"]["battery.voltage.nominal"], "unit": "V",
        "origin": texts["origins"]["battery.voltage.nominal"], "description": "Nominal battery voltage",
    }  # fmt: skip
    assert site.api("/ups/ups-01/variables/device.type").json["value"] == "ups"
    problem(site.api("/ups/ups-01/variables/no.such"), 404, "unknown-variable")
    problem(site.api("/ups/nobody"), 404, "unknown-ups")


def test_json_is_utf8_and_kept_by_no_cache(site: WebSite) -> None:
    answer = site.api("/fleet")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert json.loads(answer.body.decode("utf-8"))


def test_history_comes_from_the_database(site: WebSite) -> None:
    found = soon(lambda: site.api("/ups/ups-01/history/input.voltage?since=1h").json["points"], "a reading in the database")
    assert found[0].keys() == {"time", "min", "mean", "max", "count"}
    document = site.api("/ups/ups-01/history/input.voltage?since=2020-01-01&every=1d").json
    assert (document["unit"], document["every_s"], len(document["points"])) == ("V", 86400.0, 1)
    assert document["points"][0]["min"] <= document["points"][0]["mean"] <= document["points"][0]["max"]
    problem(site.api("/ups/ups-01/history/device.mfr"), 404, "unknown-variable")
    problem(site.api("/ups/ups-01/history/input.voltage?since=2000-01-01&every=1s"), 409, "too-many-points")
    mistake = problem(site.api("/ups/ups-01/history/input.voltage?since=yesterday"), 422, "unreadable")
    assert mistake["errors"][0]["where"] == "query.since"


# -- doing


def test_a_command_is_done_and_written_down(site: WebSite) -> None:
    answer = site.api("/ups/ups-01/commands/beeper.toggle", "POST")
    assert answer.status == 200
    assert answer.json.items() >= {"ups": "ups-01", "name": "beeper.toggle", "value": None, "outcome": "accepted"}.items()
    last = trail(site)[-1]
    assert (last["who"], last["where"], last["target"], last["name"], last["outcome"]) == (
        "operator", "http 127.0.0.1", "ups-01", "beeper.toggle", "accepted",
    )  # fmt: skip


def test_without_the_right_nothing_is_sent_and_that_is_written_down(site: WebSite) -> None:
    before = site.asked("ups-01").count(b"Q\r")
    assert problem(site.api("/ups/ups-01/commands/beeper.toggle", "POST", user=READER), 403, "forbidden")["needs"] == "command"
    problem(site.api("/ups/ups-01/settings/ups.delay.start", "PUT", user=READER, body={"value": 240}), 403, "forbidden")
    problem(site.api("/shutdown/cancel", "POST", user=READER), 403, "forbidden")
    problem(site.api("/tests", "POST", user=READER, body={"targets": ["all"]}), 403, "forbidden")
    problem(site.api("/maintenance", "POST", user=READER, body={"targets": ["all"]}), 403, "forbidden")
    assert site.asked("ups-01").count(b"Q\r") == before
    assert [(entry["name"], entry["outcome"]) for entry in trail(site)[-5:]] == [
        ("beeper.toggle", "forbidden"), ("ups.delay.start", "forbidden"), ("shutdown.cancel", "forbidden"),
        ("test-start", "forbidden"), ("maintenance-start", "forbidden"),
    ]  # fmt: skip


def test_what_a_ups_has_not_got_or_refuses_is_no_success(site: WebSite) -> None:
    unknown = problem(site.api("/ups/ups-01/commands/outlet.9.load.off", "POST"), 404, "order-unsupported")
    assert (unknown["outcome"], unknown["ups"], unknown["reply"]) == ("unsupported", "ups-01", None)
    refused = problem(site.api("/ups/ups-01/settings/ups.delay.start", "PUT", body={"value": "soon"}), 409, "order-rejected")
    assert "nothing was sent" in refused["detail"]
    problem(site.api("/ups/ups-01/settings/ups.delay.start", "PUT", body={"wert": 1}), 422, "unreadable")
    problem(site.api("/ups/ups-01/settings/ups.delay.start", "PUT", body=b"{"), 422, "unreadable")
    problem(site.api("/ups/ups-01/settings/ups.delay.start", "PUT", body=b" " * 100_000), 413, "content-too-large")


def test_a_setting_is_changed(site: WebSite) -> None:
    assert site.api("/ups/ups-02/settings/ups.delay.start", "PUT", body={"value": 240}).json["outcome"] == "accepted"
    assert site.api("/ups/ups-02/settings").json["settings"]["ups.delay.start"]["value"] == "240"
    assert site.json("settings", "ups-02")["settings"]["ups.delay.start"]["value"] == "240"


# -- as it happens


def test_events_are_told_as_they_happen_and_again_to_who_comes_back(site: WebSite) -> None:
    with site.stream("/events/stream") as messages:
        time.sleep(0.3)
        site.api("/ups/ups-03/commands/test.battery.stop", "POST")
        kind, number, event = next(messages)
        assert (kind, event["ups"], event["name"], str(event["id"])) == ("event", "ups-03", "test.battery.stop", number)
    site.api("/ups/ups-03/commands/test.battery.stop", "POST")
    with site.stream("/events/stream", Last_Event_ID=number) as messages:
        _, later, event = next(messages)
        assert int(later) > int(number) and event["name"] == "test.battery.stop"
    known = site.api(f"/events?after={number}").json["events"]
    assert [str(each["id"]) for each in known][:1] == [later]


def test_the_fleets_stream_begins_with_all_and_goes_on_with_what_changes(site: WebSite) -> None:
    with site.stream("/fleet/stream") as messages:
        kind, _, first = next(messages)
        assert kind == "ups" and [ups["name"] for ups in first["ups"]] == ["ups-01", "ups-02", "ups-03"]
        site.tell("mains off ups-02")
        try:
            for _, _, news in messages:
                changed = {ups["name"]: ups for ups in news["ups"]}
                if "ups-02" in changed and changed["ups-02"]["status"].startswith("OB"):
                    break
            assert changed["ups-02"]["tone"] == "bad" and changed["ups-02"]["words"].startswith("On battery")
        finally:
            site.tell("mains on ups-02")


# -- tests, maintenance, shutdown, batteries


def test_battery_tests_maintenance_and_batteries_are_those_of_the_command_line(site: WebSite) -> None:
    assert site.api("/maintenance", "POST", body={"targets": ["ups-03"], "for_s": 3600, "reason": "dusting"}).json == {
        "started": ["ups-03"]
    }
    (window,) = site.api("/maintenance").json["maintenance"]
    assert (window["ups"], window["actor"], window["reason"]) == ("ups-03", "http:operator@127.0.0.1", "dusting")
    began = site.api("/tests", "POST", body={"targets": ["ups-03"]})
    assert began.status == 202
    assert began.json["wave"]["ups"][0]["ups"] == "ups-03"
    assert site.api("/maintenance/stop", "POST", body={"targets": ["ups-03"]}).json == {"stopped": ["ups-03"]}
    assert site.api("/tests?target=ups-03").json.keys() == {"tests", "waves"}
    assert {each["name"] for each in trail(site)[-3:]} == {"maintenance-start", "test-start", "maintenance-stop"}
    batteries = {each["ups"]: each for each in site.api("/batteries").json["batteries"]}
    assert batteries["ups-01"]["health_percent"] is None  # nobody has discharged it yet
    assert site.api("/ups/ups-01/battery").json == batteries["ups-01"]


def test_the_shutdown_says_that_it_has_nothing_to_stop(site: WebSite) -> None:
    assert site.api("/shutdown").json["armed"] is False
    problem(site.api("/shutdown/start", "POST", body={"targets": ["ups-01"]}), 409, "failed")
    assert site.api("/shutdown/runs").json == {"runs": []}
    problem(site.api("/shutdown/runs/7"), 404, "unknown-target")


# -- tokens


def test_a_token_acts_as_its_user_and_no_more(site: WebSite) -> None:
    made = site.api("/tokens", "POST", body={"name": "grafana", "allow": ["read"]})
    assert made.status == 201
    secret = made.json["token"]
    assert site.api("/about", token=secret).json.items() >= {"you": "operator/grafana", "rights": ["read"]}.items()
    problem(site.api("/ups/ups-01/commands/beeper.toggle", "POST", token=secret), 403, "forbidden")
    problem(site.api("/tokens", "POST", token=secret, body={"name": "child"}), 403, "forbidden")
    problem(site.api("/tokens", "POST", body={"name": "grafana"}), 409, "token")
    problem(site.api("/tokens", "POST", user=READER, body={"name": "x", "allow": ["command"]}), 409, "token")
    (listed,) = site.api("/tokens").json["tokens"]
    assert listed["name"] == "grafana" and "token" not in listed
    assert secret.encode() not in (site.folder / "fleet.db").read_bytes()
    problem(site.api("/tokens/grafana", "DELETE", user=READER), 404, "unknown-token")
    assert site.api("/tokens/grafana", "DELETE").status == 204
    problem(site.api("/about", token=secret), 401, "login")


def test_tokens_of_the_command_line(site: WebSite) -> None:
    secret = site.run("token", "create", "backup", "--user", "reader", "--expires", "90d").stdout.strip()
    assert site.api("/about", token=secret).json["you"] == "reader/backup"
    (listed,) = site.json("token", "list")["tokens"]
    assert listed["expires"] > listed["created"] and listed["used"] is not None
    assert "reader" in site.run("token", "list").stdout
    assert site.run("token", "create", "backup", "--user", "reader").returncode == 1
    assert site.run("token", "create", "other", "--user", "nobody").returncode == 1
    assert site.run("token", "create", "other", "--user", "reader", "--allow", "set").returncode == 1
    assert site.run("token", "revoke", "backup").returncode == 0
    assert site.run("token", "revoke", "backup").returncode == 2
    problem(site.api("/about", token=secret), 401, "login")
    assert [entry["name"] for entry in trail(site) if entry["act"] == "token"][-2:] == ["token-revoke", "token-revoke"]
    assert "token-create" in site.run("audit").stdout


# -- the description


def test_every_operation_is_described_with_an_example(site: WebSite) -> None:
    document = site.ask("/api/v1/openapi.json", user=None).json
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (path, method)
            assert operation["tags"] and operation["security"], (path, method)
            assert PROBLEM in operation["responses"]["401"]["content"]
    for name, schema in document["components"]["schemas"].items():
        plain = [key for key, value in schema.get("properties", {}).items() if value.get("type") == "string"]
        assert not [key for key in plain if not {"examples", "enum", "const"} & schema["properties"][key].keys()], name


def test_requests_made_from_the_description_find_no_fault(site: WebSite, tmp_path: Path) -> None:
    """What schemathesis makes up from the OpenAPI document; ``QXFLEET_SOAK=1`` has it make up more.

    It guesses passwords too, so that none is listened to from here for a minute afterwards.
    """
    secret = site.run("token", "create", "schema", "--user", "operator").stdout.strip()
    long = os.environ.get("QXFLEET_SOAK") == "1"
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "run", f"{site.url}/api/v1/openapi.json",
         "-H", f"Authorization: Bearer {secret}", "--exclude-path-regex", "stream$", "--checks", "all",
         "--phases", "examples,coverage,fuzzing" if long else "fuzzing", "--max-examples", "200" if long else "3"],
        cwd=tmp_path, capture_output=True, text=True, timeout=3600 if long else 110, check=False,
        env={**os.environ, "SCHEMATHESIS_HOOKS": ""},
    )  # fmt: skip
    site.run("token", "revoke", "schema")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Traceback" not in site.log


# -- alone


def test_streams_are_shared_out_and_end_with_the_right_to_them() -> None:
    with web_site(count=1) as site, contextlib.ExitStack() as open_ones:
        made = site.api("/tokens", "POST", body={"name": "wall"}).json["token"]
        by_token = open_ones.enter_context(site.stream("/fleet/stream", Authorization=f"Bearer {made}"))
        next(by_token)
        for _ in range(19):
            open_ones.enter_context(site.stream("/fleet/stream"))
        problem(site.api("/events/stream"), 503, "busy")
        reader = base64.b64encode(":".join(READER).encode()).decode()
        other = open_ones.enter_context(site.stream("/fleet/stream", Authorization=f"Basic {reader}"))
        next(other)
        assert site.run("token", "revoke", "wall").returncode == 0
        began_s = time.monotonic()
        for _ in by_token:
            assert time.monotonic() - began_s < 20, "a revoked token keeps its stream"
        next(other)


def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    def presented(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as link,
            ssl._create_unverified_context().wrap_socket(link) as secured,
        ):
            found = secured.getpeercert(binary_form=True)
        assert found is not None
        return found

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with web_site("", count=1) as site:
        for name, content in certificate(first).items():
            (site.folder / name).write_bytes(content)
        text = site.config.read_text()
        site.config.write_text(text.replace("[http]\n", '[http]\ncert = "cert.pem"\nkey = "key.pem"\n'))
        assert site.process is not None
        site.process.send_signal(signal.SIGHUP)

        def strict() -> str | None:
            with contextlib.closing(
                http.client.HTTPSConnection("127.0.0.1", site.port, timeout=20, context=ssl._create_unverified_context())
            ) as link:
                try:
                    link.request("GET", "/")
                except OSError:
                    return None
                return link.getresponse().headers["strict-transport-security"]

        wait_for(lambda: strict() == "max-age=31536000", "TLS, and that browsers are told to keep to it")
        before = presented(site.port)
        for name, content in certificate(second).items():
            (site.folder / name).write_bytes(content)
        wait_for(lambda: presented(site.port) != before, "the new certificate")


def test_a_face_opens_changes_moves_and_ends_in_time() -> None:
    """Without users everybody may read; users and another address come by a reload; streams hold up no end."""
    with web_site("", count=1) as site:
        assert site.api("/about", user=None).json.items() >= {"you": "anonymous", "rights": ["read"]}.items()
        problem(site.api("/ups/ups-01/commands/beeper.toggle", "POST", user=None), 403, "forbidden")
        problem(site.api("/fleet", user=None, Host="evil.example"), 401, "login")
        assert site.ask("/", user=None).status == 200

        old, site.port = site.port, free_port()
        site.configure()
        assert site.process is not None
        site.process.send_signal(signal.SIGHUP)
        wait_for(lambda: f"http: listening on 127.0.0.1:{site.port}" in site.log, "the new address")
        assert site.api("/about").json["you"] == "operator"
        problem(site.api("/about", user=None), 401, "login")
        with pytest.raises(ConnectionRefusedError):
            site.api("/about", port=old)

        (site.folder / "two").mkdir()
        second = site.folder / "two" / "qxfleet.toml"
        second.write_text(
            f'[agent]\ndatabase = "sqlite:///f.db"\ncontrol = "a.sock"\n[http]\nlisten = ["127.0.0.1:{site.port}"]\n'
        )
        with (site.folder / "two" / "log").open("w") as log:
            other = start("--config", second, "run", stderr=log)
        complaint = f"[http] listen 127.0.0.1:{site.port}: Address already in use: another program has it"
        wait_for(lambda: complaint in (site.folder / "two" / "log").read_text(), "that the port is taken")
        assert qxfleet("--config", second, "status").returncode == 0, "which keeps it from nothing else"
        other.terminate()
        assert other.wait(20) == 0

        with site.stream("/fleet/stream") as messages, site.stream("/events/stream"):
            next(messages)
            began_s = time.monotonic()
            assert site.stop() == 0
            assert time.monotonic() - began_s < 5.0  # what the outside face promises
        assert "Traceback" not in site.log


LAZY = """
import asyncio, sys
from pathlib import Path
from qxfleet.agent.agent import Agent
from qxfleet.config.load import load
from qxfleet.interfaces.parts import PARTS

async def main():
    agent = Agent(load(Path(sys.argv[1])), parts=PARTS)
    running = asyncio.create_task(agent.run())
    await asyncio.sleep(1)
    agent.stop()
    await running

asyncio.run(main())
heavy = ("fastapi", "starlette", "uvicorn", "jinja2", "prometheus_client", "httpx")
print([name for name in heavy if name in sys.modules])
"""


def test_an_agent_without_faces_loads_nothing_of_them(tmp_path: Path) -> None:
    config = tmp_path / "qxfleet.toml"
    config.write_text('[agent]\ndatabase = "sqlite:///f.db"\ncontrol = "a.sock"\n')
    done = subprocess.run([sys.executable, "-c", LAZY, str(config)], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
