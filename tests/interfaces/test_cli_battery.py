"""``battery``, ``outages`` and ``report`` on a database of which the truth is known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from qxfleet.interfaces.cli.main import run_command
from qxfleet.store.migrate import upgrade
from qxfleet.testing.years import fleet
from tests.battery.years import load_years


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("cli")
    url = f"sqlite:///{folder}/fleet.db"
    upgrade(url)
    load_years(url, fleet(2, 1.0))
    file = folder / "qxfleet.toml"
    file.write_text(
        f'[agent]\nname = "row-a"\ndatabase = "{url}"\n'
        '[[ups]]\nname = "ups-001"\nport = "/dev/ttyS0"\n[[ups]]\nname = "ups-002"\nport = "/dev/ttyS1"\n'
    )
    # matplotlib keeps the fonts it has read open for good: read them before a test counts descriptors
    assert run_command(["--config", str(file), "battery", "ups-001", "--plot", str(folder / "first.png")]) == 0
    return str(file)


def said(config: str, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run_command(["--config", config, *words]) == 0
    return capsys.readouterr().out


def test_battery_json_is_the_contracts(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(said(config, capsys, "battery", "--json"))
    assert list(document) == ["batteries"]
    for each in document["batteries"]:
        assert list(each) == [
            "ups", "health_percent", "trend_percent_per_year", "replace_by", "replace_by_low", "replace_by_high", "confidence",
            "evidence",
        ]  # fmt: skip
        assert each["replace_by"] is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["replace_by"])
    frozen = next(each for each in document["batteries"] if each["ups"] == "ups-002")
    assert frozen["health_percent"] is None
    assert any("frozen" in text for text in frozen["evidence"]["data_problems"])


def test_one_battery_in_detail_and_as_a_picture(config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "one.svg"
    shown = said(config, capsys, "battery", "ups-001", "--plot", str(picture))
    assert "verdict" in shown and "next step" in shown and "CAPACITY" in shown
    assert picture.read_text().startswith("<?xml")
    assert run_command(["--config", config, "battery", "--plot", "x.doc"]) == 2
    assert "expected a file ending in .png or .svg" in capsys.readouterr().err
    assert run_command(["--config", config, "battery", "nobody"]) == 2


def test_outages_leave_tests_out(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("outages", "--since", "always", "--json")
    outages = json.loads(said(config, capsys, *words))["outages"]
    assert outages and {each["cause"] for each in outages} == {"mains"}
    everything = json.loads(said(config, capsys, *words, "--tests", "--curves"))["outages"]
    assert {each["cause"] for each in everything} == {"mains", "test"}
    assert all(each["curve"] for each in everything)


def test_the_register_and_an_agent_that_is_not_there(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ups-001/1" in said(config, capsys, "battery", "list")
    assert run_command(["--config", config, "battery", "replaced", "ups-001"]) == 3


def test_the_report_needs_nothing_else(config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    said(config, capsys, "report", "--since", "always", "--output", str(file))
    page = file.read_text()
    for heading in ("What to buy", "What to test", "What is wrong with the data", "Outages since"):
        assert heading in page
    assert page.count("<svg") == 4
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', page.replace("xlink:href", "href")) == []
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "pictures must not share names within one page"
