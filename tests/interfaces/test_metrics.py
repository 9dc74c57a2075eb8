"""Both metrics endpoints, read by promtool and scraped by a real Prometheus."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qxfleet.config.load import load
from qxfleet.interfaces.metric_families import PREFIX, nut_families
from qxfleet.interfaces.metrics import written
from qxfleet.model.events import Link
from qxfleet.model.reading import Reading
from qxfleet.model.state import DeviceState
from qxfleet.model.status import Status
from tests.interfaces.web_site import WebSite, free_port, program, soon, web_site


@pytest.fixture(scope="module")
def site() -> Iterator[WebSite]:
    with web_site() as site:
        yield site


def series(text: str) -> dict[str, float]:
    """Name with labels → value."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def metrics(site: WebSite, path: str, **headers: str) -> str:
    answer = site.ask(path, user=None, port=site.metrics_port, **headers)
    assert answer.status == 200, answer.text
    return answer.text


def fleet(site: WebSite, **headers: str) -> str:
    answer = site.ask("/metrics", user=None, **headers)
    assert answer.status == 200, answer.text
    return answer.text


def test_promtool_accepts_every_endpoint(site: WebSite) -> None:
    promtool = program("promtool", "prometheus")
    for text in (fleet(site), metrics(site, "/ups_metrics?ups=ups-01"), metrics(site, "/metrics")):
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_ups_is_told_as_nut_exporter_does(site: WebSite) -> None:
    """Its rules: no label ``ups``, a series per flag, text only in device_info (its README and collector)."""
    text = metrics(site, "/ups_metrics?ups=ups-01")
    found = series(text)
    assert found[f'{PREFIX}ups_status{{flag="OL"}}'] == 1.0
    flags = ["OL", "OB", "LB", "HB", "RB", "CHRG", "DISCHRG", "BYPASS", "CAL", "OFF", "OVER", "TRIM", "BOOST", "FSD", "SD"]
    assert [name for name in found if name.startswith(f"{PREFIX}ups_status")] == [
        f'{PREFIX}ups_status{{flag="{flag}"}}' for flag in flags
    ]
    (info,) = [name for name in found if name.startswith(f"{PREFIX}device_info")]
    labels = ["contact", "description", "location", "macaddr", "mfr", "model", "part", "serial", "type"]
    assert [part.partition("=")[0] for part in info.partition("{")[2].rstrip("}").split(",") if "=" in part] == labels
    assert "ups=" not in text
    assert f"# HELP {PREFIX}battery_voltage_nominal Nominal battery voltage (battery.voltage.nominal)" in text
    assert f"# TYPE {PREFIX}battery_voltage_nominal gauge" in text
    variables = site.json("vars", "ups-01")["variables"]
    assert found[f"{PREFIX}battery_voltage_nominal"] == float(variables["battery.voltage.nominal"])
    # what the exporter's published dashboard draws
    for name in ("battery_charge", "battery_voltage", "battery_voltage_low", "battery_voltage_high", "input_voltage", "ups_load"):
        assert f"{PREFIX}{name}" in found


def test_a_scrape_is_limited_and_refused_as_its_query_says(site: WebSite) -> None:
    query = "ups=ups-01&variables=battery.charge,ups.status&statuses=OL,OB&username=a&password=b"
    few = series(metrics(site, f"/ups_metrics?{query}"))
    names = {name.partition("{")[0].removeprefix(PREFIX) for name in few}
    assert names == {"device_info", "ups_status", "battery_charge"}
    assert len(few) == 4
    for path, status in (("/ups_metrics", 400), ("/ups_metrics?ups=nobody", 404), ("/nothing", 404)):
        assert site.ask(path, user=None, port=site.metrics_port).status == status
    assert site.ask("/metrics", "POST", user=None, port=site.metrics_port).status == 405
    assert "/ups_metrics?ups=ups-03" in metrics(site, "/")


def test_the_fleet_has_every_ups_and_the_agent_itself(site: WebSite) -> None:
    found = series(fleet(site))
    for ups in ("ups-01", "ups-02", "ups-03"):
        assert found[f'{PREFIX}ups_status{{flag="OL",ups="{ups}"}}'] == 1.0
        assert found[f'qxfleet_ups_state{{state="online",ups="{ups}"}}'] == 1.0
        assert found[f'qxfleet_polls_total{{ups="{ups}"}}'] > 0
    assert found['qxfleet_build_info{agent="test",version="0.1.0"}'] == 1.0
    assert (found["qxfleet_ups_configured"], found["qxfleet_store_up"], found["qxfleet_plan_armed"]) == (3.0, 1.0, 0.0)
    assert found['qxfleet_poll_lateness_seconds_bucket{le="+Inf"}'] == found["qxfleet_poll_lateness_seconds_count"] > 0
    assert found["process_open_fds"] > 0


def test_openmetrics_is_given_to_who_asks_for_it(site: WebSite) -> None:
    answer = site.ask("/metrics", user=None, Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    assert "# TYPE qxfleet_polls counter" in answer.text
    assert site.ask("/metrics", user=None).headers["content-type"].startswith("text/plain; version=0.0.4")


def test_an_outage_is_counted_and_lost_contact_leaves_no_stale_value(site: WebSite) -> None:
    site.tell("mains off ups-02")
    soon(lambda: series(fleet(site)).get(f'{PREFIX}ups_status{{flag="OB",ups="ups-02"}}') == 1.0, "the outage in the metrics")
    site.tell("mains on ups-02")
    soon(lambda: series(fleet(site)).get('qxfleet_outage_seconds_total{ups="ups-02"}', 0.0) > 0.5, "seconds of it")
    site.tell("unplug ups-03")
    try:
        soon(lambda: site.states()["ups-03"] in ("stale", "lost"), "contact lost", 40)
        found = series(fleet(site))
        assert not [name for name in found if name.startswith(PREFIX) and 'ups="ups-03"' in name]
        assert found['qxfleet_ups_state{state="online",ups="ups-03"}'] == 0.0
        answer = site.ask("/ups_metrics?ups=ups-03", user=None, port=site.metrics_port)
        assert answer.status == 503 and "ups-03" in answer.text
    finally:
        site.tell("replug ups-03")


def test_a_real_prometheus_scrapes_both(site: WebSite, tmp_path: Path) -> None:
    prometheus = program("prometheus", "prometheus")
    config = tmp_path / "prometheus.yml"
    config.write_text(f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: fleet
    static_configs: [{{targets: ["127.0.0.1:{site.port}"]}}]
  - job_name: one
    metrics_path: /ups_metrics
    params: {{ups: [ups-01]}}
    static_configs: [{{targets: ["127.0.0.1:{site.metrics_port}"]}}]
""")
    port = free_port()
    with _running([prometheus, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
                   f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]):  # fmt: skip

        def ask(query: str) -> dict[tuple[str, ...], float]:
            url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
                found: list[Any] = json.load(answer)["data"]["result"]
                keys = ("job", "ups", "flag")
                return {tuple(each["metric"].get(key, "") for key in keys): float(each["value"][1]) for each in found}
            return {}

        soon(lambda: ask("up") == {("fleet", "", ""): 1.0, ("one", "", ""): 1.0}, "up == 1 for both jobs", 40)
        status = ask('network_ups_tools_ups_status{flag="OL"}')
        assert status[("fleet", "ups-01", "OL")] == 1.0 and status[("one", "", "OL")] == 1.0
        assert ask("scrape_samples_scraped > 20").keys() == {("fleet", "", ""), ("one", "", "")}


DASHBOARDS = Path(__file__).parents[2] / "contrib" / "grafana"
RULES = Path(__file__).parents[2] / "contrib" / "prometheus"

NOT_HERE = ("ups_realpower", "battery_soh", "replace_by", "battery_test_", "poll_lateness", "increase(", "rate(",
            "runtime and", "charge and", 'flag="FSD"', 'flag="OB"} == 1', "battery_runtime")  # fmt: skip
"""What three simulated UPSes that have just been started have no figures of."""


def test_every_query_of_the_dashboards_is_one_and_finds_what_there_is(site: WebSite, tmp_path: Path) -> None:
    prometheus = program("prometheus", "prometheus")
    config = tmp_path / "prometheus.yml"
    config.write_text(f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: qxfleet
    static_configs: [{{targets: ["127.0.0.1:{site.port}"]}}]
""")
    port = free_port()
    with _running([prometheus, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
                   f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]):  # fmt: skip

        def ask(query: str) -> int:
            url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
            with urllib.request.urlopen(url, timeout=20) as answer:
                document = json.load(answer)
            assert document["status"] == "success", query
            return len(document["data"]["result"])

        def up() -> bool:
            with contextlib.suppress(OSError):
                return ask("qxfleet_ups_info") == 3
            return False

        soon(up, "a first scrape", 60)
        seen = 0
        for file in sorted(DASHBOARDS.glob("*.json")):
            for panel in json.loads(file.read_text())["panels"]:
                for target in panel["targets"]:
                    query = target["expr"].replace("$ups", ".+")
                    found = ask(query)
                    seen += 1
                    if not any(each in query for each in NOT_HERE):
                        assert found, f"{file.name}, {panel['title']}: {query} finds nothing"
        assert seen > 40


def test_the_dashboards_are_what_their_table_says() -> None:
    spec = importlib.util.spec_from_file_location("dashboards", Path(__file__).parents[2] / "scripts" / "dashboards.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dashboards"] = module
    spec.loader.exec_module(module)
    for name in module.DASHBOARDS:
        assert json.loads((DASHBOARDS / f"{name}.json").read_text()) == module.dashboard(name), "run python scripts/dashboards.py"
    del sys.modules["dashboards"]


def test_the_alert_rules_pass_their_own_tests() -> None:
    promtool = program("promtool", "prometheus")
    for command in (["check", "rules", "qxfleet.rules.yml"], ["test", "rules", "qxfleet.rules.test.yml"]):
        done = subprocess.run([promtool, *command], cwd=RULES, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


async def test_words_for_on_and_off_are_numbers_and_other_text_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "q.toml"
    file.write_text('[[ups]]\nname = "u"\nport = "/dev/null"\ndescription = "behind the door"\n')
    (options,) = load(file).ups
    values: dict[str, float | str] = {
        "ups.beeper.status": "enabled", "battery.protection": "disabled", "outlet.1.status": "On", "ups.firmware": "V1.0",
        "qx.battery.count": 16.0, "input.L1-N.voltage": 229.9, "device.model": 'a "b"\\c',
    }  # fmt: skip
    status = int(Status.OL | Status.ECO)
    state = DeviceState("u", Link.ONLINE, reading=Reading("u", 0, 0.0, status, values), status=status)

    async def told(state: DeviceState) -> dict[str, float]:
        return series((await written(nut_families({"u": state}, {"u": options}, ()), ""))[0].decode())

    found = await told(state)
    assert found[f"{PREFIX}ups_beeper_status"] == found[f"{PREFIX}outlet_1_status"] == 1.0
    assert found[f"{PREFIX}battery_protection"] == 0.0
    assert f"{PREFIX}ups_firmware" not in found
    assert found[f"{PREFIX}input_L1_N_voltage"] == 229.9
    assert found[f"{PREFIX}qx_battery_number"] == 16.0  # OpenMetrics keeps _count to itself
    assert found[f'{PREFIX}ups_status{{flag="ECO"}}'] == 1.0
    assert any('description="behind the door"' in name and 'model="a \\"b\\"\\\\c"' in name for name in found)
    assert await told(replace(state, link=Link.STALE)) == {}
