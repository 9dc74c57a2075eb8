"""``check``: validates the configuration and prints the fleet it describes; touches no device."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qxfleet.api.fleet_shapes import retention_document, retention_line
from qxfleet.errors import ConfigError, StoreError
from qxfleet.interfaces.cli.output import Json, complain, emit, print_table
from qxfleet.model.retention import BESIDE_FLEET, Retention

if TYPE_CHECKING:
    from qxfleet.config.load import Config
    from qxfleet.model.options import UpsOptions


FLEET_S = 3.0
"""How long the fleet store may take to say whether the names are free."""


def check(
    context: typer.Context,
    defaults: Annotated[bool, typer.Option("--defaults", help="Print every key with its default and range instead.")] = False,
    json: Json = False,
) -> None:
    """Validate the configuration and print the fleet it describes.

    Exit code 2 on any error; all of them are listed, each with its place and the remedy.
    """
    from qxfleet.config.load import Config, load

    if defaults:
        text = Config.defaults_text()
        if json:
            emit({"defaults": text.splitlines()})
        else:
            typer.echo(text)
        return
    try:
        config = load(context.obj)
        _check_certificates(config)
        fleet_keeps = _check_fleet(config)
    except ConfigError as error:
        if json:
            emit({"problems": list(error.problems)})
        raise
    warnings = (*config.warnings, *_folder_warnings(config), *_usb_warnings(config))
    if json:
        emit(_document(config, warnings, fleet_keeps))
        return
    headings = ["NAME", "PORT", "DIALECT", "GROUPS", "POLL", "OFF DELAY", "ON DELAY"]
    sides = ["left", "left", "left", "left", "right", "right", "right"]
    print_table(list(zip(headings, sides, strict=True)), [_row(ups) for ups in config.ups])
    for profile in config.profiles:
        typer.echo(
            f"profile {profile.name}: {_count(len(profile.settings), 'setting')} on {_count(len(profile.upses), 'UPS', 'UPSes')}"
        )
    if config.shutdown.loads:
        hang = f"{_count(len(config.shutdown.loads), 'load')} on {_count(len(config.shutdown.fed), 'UPS', 'UPSes')}"
        typer.echo(f"shutdown: {hang}; `qxfleet shutdown check` looks at the plan")
    for warning in warnings:
        complain(f"warning: {warning}")
    files = ", ".join(str(source) for source in config.sources)
    typer.echo(f"{len(config.ups)} UPSes in {files}: no errors, {_count(len(warnings), 'warning')}")
    where = f"state {config.agent.state}" + (f", fleet {_shown(config.fleet.database)}" if config.fleet else "")
    typer.echo(f"agent {config.agent.name}, {where}, control socket {config.agent.control}")
    typer.echo(f"the state keeps {retention_line(_state_keeps(config))}")
    if fleet_keeps is not None:
        typer.echo(f"the fleet store keeps {retention_line(fleet_keeps)} (its own rule: qxfleet fleet retention)")


def _state_keeps(config: Config) -> Retention:
    return config.retention if config.fleet is None else config.retention.at_most(BESIDE_FLEET)


def _check_certificates(config: Config) -> None:
    """ConfigError where a certificate and its key can't be used: a face would begin without TLS, or not at all."""
    from qxfleet.interfaces.listening import unusable

    faces = {"nut": config.faces.nut, "http": config.faces.http, "metrics": config.faces.metrics}
    problems = [
        f"[{name}] cert {face.tls.cert}, key {face.tls.key}: {why}: correct cert and key"
        for name, face in faces.items()
        if face is not None and face.tls is not None and (why := unusable(face.tls)) is not None
    ]
    if problems:
        raise ConfigError(problems)


def _check_fleet(config: Config) -> Retention | None:
    """How long the fleet store keeps what, None if it does not say; ConfigError where it would take nothing from this agent."""
    if config.fleet is None:
        return None
    from qxfleet.store.fleet import AgentIdentity, bounded, conflict
    from qxfleet.store.fleet_upkeep import kept
    from qxfleet.store.migrate import Standing, standing

    who = AgentIdentity(_own_uuid(config.agent.state), config.agent.name)
    try:
        with bounded(config.fleet.database, FLEET_S, writing=False) as connection:
            if standing(connection).standing is not Standing.CURRENT:
                return None
            found = conflict(connection, who, [ups.name for ups in config.ups])
            rules = kept(connection)
    except StoreError as error:
        complain(f"names were not compared with those of other agents: {error}")
        return None
    if found is not None:
        raise ConfigError([f"[fleet]: {found}"])
    return rules


def _own_uuid(state: Path) -> str:
    """The identity in the agent's state; empty where there is none yet, or it can't be read."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{state.absolute().as_uri()}?mode=ro", uri=True)) as file:
        found = file.execute("SELECT value FROM meta WHERE key = 'agent.uuid'").fetchone()
        return str(found[0]) if found else ""
    return ""


def _folder_warnings(config: Config) -> tuple[str, ...]:
    """Whether what the agent keeps has a folder to lie in; that of the usual state the agent makes where it may."""
    from qxfleet.config.stores import STATE

    wanted: dict[Path, list[str]] = {}
    for what, file in (("state", config.agent.state), ("side file", config.agent.spool)):
        wanted.setdefault(file.parent, []).append(what)
    return tuple(
        f"{' and '.join(kept)}: folder {folder} does not exist: create it and give it to the user qxfleet runs as"
        for folder, kept in wanted.items()
        if not folder.is_dir() and not (folder == STATE.parent and os.access(folder.parent, os.W_OK))
    )


def _usb_warnings(config: Config) -> tuple[str, ...]:
    """Whether the library that USB needs is there, where a UPS is on USB."""
    if all(ups.port != "auto" for ups in config.ups):
        return ()
    from qxfleet.transports.usb_bus import fresh_libusb

    if fresh_libusb() is not None:
        return ()
    return ("libusb-1.0 is not installed, and no UPS on USB can be reached without it: apt-get install -y libusb-1.0-0",)


def _row(ups: UpsOptions) -> list[tuple[str, str | None]]:
    return [
        (ups.name, "bold"),
        (ups.port, None),
        (ups.dialect, None),
        (" ".join(ups.groups) or "-", None),
        (f"{ups.poll_interval_s:g} s", None),
        (f"{ups.offdelay_s} s", None),
        ("stays off" if ups.stayoff else f"{ups.ondelay_s} s", None),
    ]


def _document(config: Config, warnings: tuple[str, ...], fleet_keeps: Retention | None) -> dict[str, Any]:
    return {
        "agent": config.agent.name,
        "state": str(config.agent.state),
        "fleet": {"database": _shown(config.fleet.database), "site": config.fleet.site} if config.fleet else None,
        "retention": {
            "state": retention_document(_state_keeps(config)),
            "fleet": None if fleet_keeps is None else retention_document(fleet_keeps),
        },
        "control": str(config.agent.control),
        "sources": [str(source) for source in config.sources],
        "ups": [
            {
                "name": ups.name, "description": ups.description, "groups": list(ups.groups), "port": ups.port,
                "dialect": ups.dialect, "poll_interval_s": ups.poll_interval_s, "full_interval_s": ups.full_interval_s,
                "offdelay_s": ups.offdelay_s, "ondelay_s": ups.ondelay_s, "stayoff": ups.stayoff,
            }
            for ups in config.ups
        ],
        "profiles": [
            {"name": profile.name, "ups": list(profile.upses), "settings": dict(profile.settings), "go_on": profile.go_on}
            for profile in config.profiles
        ],
        "problems": [],
        "warnings": list(warnings),
    }  # fmt: skip


def _shown(url: str) -> str:
    """A database's URL without its password."""
    from qxfleet.store.engine import parse_url, shown

    return shown(parse_url(url))


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number or 'no'} {noun if number == 1 else plural or noun + 's'}"
