"""TAB completes names of the running fleet, and does no harm where no agent runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interfaces.conftest import PLAIN, Site, process


def offered(config: Path, *words: str) -> list[str]:
    """What bash is offered for the last word."""
    line = ["qxfleet", "--config", str(config), *words]
    environment = {
        **PLAIN, "_QXFLEET_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1),
    }  # fmt: skip
    return process(env=environment).stdout.split()


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["vars", "ups-0"], [f"ups-{number:02}" for number in range(1, 7)]),
        (["status", "group:ra"], ["group:rack1", "group:rack2", "group:rack3"]),
        (["command", "ups-03", "test.battery.start."], ["test.battery.start.deep", "test.battery.start.quick"]),
        (["set", "ups-03", "ups.delay.sh"], ["ups.delay.shutdown"]),
    ],
)
def test_names_of_the_fleet(site: Site, words: list[str], offers: list[str]) -> None:
    assert offered(site.config, *words) == offers


def test_without_an_agent_nothing_is_offered(tmp_path: Path) -> None:
    config = tmp_path / "qxfleet.toml"
    config.write_text('[agent]\ncontrol = "none.sock"\n')
    assert offered(config, "vars", "ups") == []
