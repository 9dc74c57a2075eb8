"""The reference of all keys says what the schema does and the seeds say."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from qxfleet.config.load import Config, load
from qxfleet.config.reference import TABLES, option_reference, rows
from qxfleet.config.schema import AgentTable, UpsTable

OPTIONS = {
    # engine.md sections 10.1 and 10.2: option → default and range as they must be shown
    "ondelay": ('"3m"', "0 to 599940 s"),
    "offdelay": ('"30s"', "12 to 600 s"),
    "stayoff": ("false", "true or false"),
    "protocol": ("that of dialect", '"megatec/old"'),
    "pollfreq": ("that of full_interval", "a number of seconds"),
    "norating": ("false", "true or false"),
    "novendor": ("false", "true or false"),
    "ignoresab": ("false", "true or false"),
    "runtimecal": ("none", "[seconds, load %, seconds, load %]"),
    "chargetime": ('"12h"', "a number of seconds"),
    "idleload": ("10", "number above 0 up to 100"),
    "default.*": ("none", "a value per variable"),
    "override.*": ("none", "a value per variable"),
    "cablepower": ('"normal"', '"normal", "reverse", "both" or "none"'),
    "vendorid": ("any", "4 hexadecimal digits"),
    "productid": ("any", "4 hexadecimal digits"),
    "vendor": ("any", "regular expression"),
    "product": ("any", "regular expression"),
    "serial": ("any", "regular expression"),
    "bus": ("any", "regular expression"),
    "subdriver": ("by the ids", '"phoenix", "ippon", "cypress" or "krauler"'),
    "langid_fix": ("none", '"0x409" or "0x4095"'),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_the_seeds(option: str) -> None:
    row = next(row for row in rows(UpsTable) if row.key == option)
    default, form = OPTIONS[option]
    assert row.default == default
    assert form in row.form


@pytest.mark.parametrize("text", [Config.defaults_text(), option_reference()], ids=["plain", "markdown"])
def test_every_key_is_there(text: str) -> None:
    for header, model in TABLES:
        assert header in text
        for row in rows(model):
            assert row.key in text
            assert row.meaning
            assert row.form
            assert row.default


def test_the_markdown_tables_are_whole() -> None:
    tables = [line for line in option_reference().splitlines() if line.startswith("|")]
    assert len(tables) == sum(len(model.model_fields) + 2 for _, model in TABLES)
    assert {line.replace("\\|", "").count("|") for line in tables} == {5}


def test_the_defaults_shown_are_those_that_hold(tmp_path: Path) -> None:
    """A file that spells every shown default out means the same as one that leaves them out."""
    lines = []
    for header, model in ((header, model) for header, model in TABLES):
        lines.append(header)
        if model is UpsTable:
            lines += ['name = "a"', 'port = "/dev/ttyS0"']
        for row in rows(model):
            try:
                tomllib.loads(f"x = {row.default}")
            except tomllib.TOMLDecodeError:
                continue
            lines.append(f"{row.key} = {row.default}")
    spelled = tmp_path / "spelled.toml"
    spelled.write_text("\n".join(lines))
    bare = tmp_path / "bare.toml"
    bare.write_text('[[ups]]\nname = "a"\nport = "/dev/ttyS0"')
    assert len(lines) > len(AgentTable.model_fields)
    assert load(spelled).agent == load(bare).agent
    assert load(spelled).ups == load(bare).ups
