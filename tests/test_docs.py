"""The documentation says what the code does: generated tables are up to date, and nothing that a user can meet is missing."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from qxfleet.agent.assess import RULES
from qxfleet.config.schema import LATER_TABLES, RENAMED, AgentTable, FleetTable, ProfileTable, UpsTable
from qxfleet.dialects.registry import dialect_named
from qxfleet.interfaces.cli.main import command_line
from qxfleet.model.events import EventKind, Outcome
from qxfleet.model.reading import Origin
from qxfleet.testing.simulator import Fault
from tests.generated_docs import BLOCK, BLOCKS, DOCS, FAMILY, renewed

ROOT = DOCS.parent
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])

SEED_OPTIONS = (
    "ondelay", "offdelay", "stayoff", "protocol", "pollfreq", "default.battery.voltage.high", "default.battery.voltage.low",
    "default.battery.voltage.nominal", "override.battery.voltage.nominal", "override.battery.packs", "runtimecal", "chargetime",
    "idleload", "norating", "novendor", "cablepower", "port", "vendorid", "productid", "vendor", "product", "serial", "bus",
    "subdriver", "langid_fix",
)  # fmt: skip
"""EXTRA ARGUMENTS of the manual pages nutdrv_qx 2.7.1 and blazer_usb 2.7.4, without those of the voltronic protocol."""

SEED_RENAMED = ("battvolts", "dtr", "rts", "ignoreoff")
"""NOTES FOR THE PREVIOUS USER OF MEGATEC DRIVERS, on both pages."""

SEED_COMMANDS = (
    "beeper.toggle", "load.on", "load.off", "shutdown.return", "shutdown.stayoff", "shutdown.stop", "test.battery.start",
    "test.battery.start.deep", "test.battery.start.quick", "test.battery.stop",
)  # fmt: skip
"""UPS COMMANDS of the two pages, without those of the voltronic protocol."""

SEED_DIALECTS = ("mecer", "megatec", "megatec/old", "mustek", "zinto")
"""Values of ``protocol`` on the two pages, without voltronic."""


def text(name: str) -> str:
    """A page under ``docs``."""
    return (DOCS / name).read_text()


def pages_with_blocks() -> Iterator[Path]:
    for page in PAGES:
        if BLOCK.search(page.read_text()):
            yield page


@pytest.mark.parametrize("page", list(pages_with_blocks()), ids=lambda page: page.name)
def test_generated_tables_are_up_to_date(page: Path) -> None:
    assert renewed(page.read_text()) == page.read_text(), "run: python -m tests.generated_docs"


def test_every_generated_table_is_on_one_page() -> None:
    found = [block["name"] for page in PAGES for block in BLOCK.finditer(page.read_text())]
    assert sorted(found) == sorted(BLOCKS)
    opened = sum(len(re.findall("^<!-- generated:", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert opened == len(found), "a table without its end, or within another"


def test_every_option_of_the_seeds_is_explained() -> None:
    page = text("options.md")
    assert [name for name in (*SEED_OPTIONS, *SEED_RENAMED) if f"`{name}`" not in page] == []
    assert [name for name in RENAMED if f"`{name}`" not in page] == []


def test_every_option_of_the_seeds_is_a_key() -> None:
    keys = UpsTable.model_fields
    assert [name for name in SEED_OPTIONS if name.partition(".")[0] not in keys] == []
    assert [name for name in SEED_RENAMED if name not in RENAMED] == []


def test_every_key_is_in_the_reference() -> None:
    page = text("configuration.md")
    keys = [*AgentTable.model_fields, *FleetTable.model_fields, *UpsTable.model_fields, *ProfileTable.model_fields]
    assert [key for key in keys if f"| `{key}` |" not in page and f"| `{key}.*` |" not in page] == []
    assert [table for table in LATER_TABLES if f"[{table}]" not in page] == []


def test_every_command_of_the_seeds_is_there_and_explained() -> None:
    page = text("dialects.md")
    for dialect in (dialect_named(name) for name in SEED_DIALECTS):
        assert dialect is not None
        assert [name for name in SEED_COMMANDS if dialect.order(name) is None] == [], dialect.name
    assert [order.name for dialect in FAMILY for order in dialect.orders if f"`{order.name}`" not in page] == []
    assert [outcome.value for outcome in Outcome if f"`{outcome.value}`" not in page] == []


def verbs(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name."""
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{before}{name} ")
        else:
            yield before + name, command


COMMANDS = dict(verbs(get_command(command_line())))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_its_section(name: str) -> None:
    sections = re.split(r"^### ", text("commands.md"), flags=re.MULTILINE)
    (section,) = [each for each in sections if re.match(rf"`{re.escape(name)}[ `]", each)]
    missing = [
        option
        for parameter in COMMANDS[name].params
        for option in parameter.opts
        if option.startswith("--") and option not in ("--json", "--help") and option not in section
    ]
    assert missing == []
    takes_json = any("--json" in parameter.opts for parameter in COMMANDS[name].params)
    assert ("--json" in section) == takes_json
    arguments = [parameter.metavar for parameter in COMMANDS[name].params if parameter.param_type_name == "argument"]
    assert section.startswith(f"`{' '.join([name, *arguments])}`\n")


def test_every_command_line_in_the_documentation_exists() -> None:
    """The verb behind each ``qxfleet`` of a code block is one, and its options are its own."""
    top = {option for parameter in get_command(command_line()).params for option in parameter.opts}
    checked = 0
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            for line in re.findall(r"^(?:\$| ) +(?:\S*/)?qxfleet (.+)$", block, flags=re.MULTILINE):
                words = shlex.split(line.partition("  #")[0].rstrip("&"))
                while words[0].startswith("-"):
                    assert words.pop(0) in top, line
                    words.pop(0)
                verb = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
                assert verb in COMMANDS, (page.name, line)
                known = {option for parameter in COMMANDS[verb].params for option in parameter.opts}
                assert {word for word in words if word.startswith("--")} <= known, (page.name, line)
                checked += 1
    assert checked > 25


def event_names() -> set[str]:
    """Names that the code gives to events: rules, and literals where one is made."""
    names = {rule.name for rule in RULES}
    for file in [*(ROOT / "qxfleet" / "agent").glob("*.py"), *(ROOT / "qxfleet" / "session").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="_tell" | "_remark"), args=[ast.Constant(value=str(name)), *_]):
                    names.add(name)
                case ast.Call(func=ast.Name(id="Event"), args=[ast.Starred(), ast.Constant(value=str(name)), *_]):
                    names.add(name)
                case ast.Call(func=ast.Name(id="Event"), args=[_, _, _, ast.Constant(value=str(name)), *_]):
                    names.add(name)
    return names


def test_every_event_is_listed() -> None:
    page = text("events.md")
    names = event_names()
    assert {"on-battery", "contact", "agent-started", "clock-stepped", "input-glitch", "session-crashed"} <= names
    assert [name for name in sorted(names) if f"| `{name}` |" not in page] == []
    assert [kind.value for kind in EventKind if f"`{kind.value}`" not in page] == []


def test_every_mark_and_every_fault_is_explained() -> None:
    assert [origin.value for origin in Origin if f"| `{origin.value}` |" not in text("options.md")] == []
    assert [fault.value for fault in Fault if not re.search(rf"`{fault.value}[ `]", text("simulator.md"))] == []


def anchor(heading: str) -> str:
    """The anchor that a heading gets where Markdown is shown."""
    plain = re.sub(r"[`*]", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
            assert fragment in {anchor(heading) for heading in headings}, target
