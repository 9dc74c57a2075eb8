"""The ``qxfleet`` command: global options, every verb, and which error is which exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from qxfleet.errors import AgentUnreachable, ConfigError, LinkUnavailable, QxfleetError
from qxfleet.interfaces.cli.client import AgentRefused
from qxfleet.interfaces.cli.output import complain

FAILED, USAGE, NO_AGENT, NOT_PERMITTED = 1, 2, 3, 4

AGENT, ONE, DATABASE, TRYING = "The agent", "A fleet through its agent", "Without an agent", "Trying it out"


def _version(wanted: bool) -> None:
    if not wanted:
        return
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from qxfleet import __version__, _fastparse

    typer.echo(f"qxfleet {__version__}")
    typer.echo(f"parser: compiled, {Path(_fastparse.__file__).name}")
    typer.echo(f"python: {platform.python_version()}")
    for part in ("sqlalchemy", "alembic", "apscheduler", "pydantic", "pyserial", "pyusb", "psycopg", "textual"):
        try:
            typer.echo(f"{part}: {version(part)}")
        except PackageNotFoundError:
            typer.echo(f"{part}: not installed")
    raise typer.Exit


def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Default: $QXFLEET_CONFIG, else /etc/qxfleet/qxfleet.toml."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show versions and exit.")
    ] = False,
) -> None:
    """Watches and steers fleets of UPSes that speak the Q*/Megatec/Voltronic protocols.

    TARGET is a UPS name, group:NAME or all. Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 no running agent,
    4 not permitted.
    """
    context.obj = config


VERBS: Mapping[str, tuple[str, str]] = {
    "run": (AGENT, "run.run"),
    "check": (AGENT, "check.check"),
    "status": (ONE, "fleet.status"),
    "top": (ONE, "top.top"),
    "vars": (ONE, "fleet.variables"),
    "commands": (ONE, "fleet.commands"),
    "command": (ONE, "orders.command"),
    "settings": (ONE, "fleet.settings"),
    "set": (ONE, "orders.set_"),
    "profile": (ONE, "profile.app"),
    "test": (ONE, "test.app"),
    "schedule": (ONE, "schedule.app"),
    "maintenance": (ONE, "maintenance.app"),
    "events": (ONE, "events.events"),
    "outages": (ONE, "outages.outages"),
    "battery": (ONE, "battery.app"),
    "report": (ONE, "report.report"),
    "history": (ONE, "history.history"),
    "shutdown": (ONE, "shutdown.app"),
    "fleet": (ONE, "agents.app"),
    "audit": (ONE, "audit.audit"),
    "token": (ONE, "token.app"),
    "probe": (DATABASE, "probe.probe"),
    "discover": (DATABASE, "discover.discover"),
    "report-device": (DATABASE, "report_device.report_device"),
    "import-nut": (DATABASE, "import_nut.import_nut"),
    "cut": (DATABASE, "cut.cut"),
    "db": (DATABASE, "db.app"),
    "user": (DATABASE, "user.app"),
    "simulate": (TRYING, "simulate.simulate"),
    "demo": (TRYING, "demo.demo"),
    "rehearse": (TRYING, "rehearse.rehearse"),
}
"""Verb to its heading in the help, and where it is: module and name in this package, imported when the verb is asked for."""

DEVICE_WORDS = ("command", "set")
"""Verbs whose words for a device may begin with a dash."""


def command_line(verbs: Iterable[str] = VERBS) -> typer.Typer:
    """The command line with these verbs, in the order of the help."""
    app = typer.Typer(
        name="qxfleet",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=options,
    )
    for verb in verbs:
        panel, place = VERBS[verb]
        module, name = place.split(".")
        what = getattr(import_module(f"qxfleet.interfaces.cli.{module}"), name)
        if isinstance(what, typer.Typer):
            app.add_typer(what, name=verb, rich_help_panel=panel)
        else:
            loose = {"ignore_unknown_options": True} if verb in DEVICE_WORDS else {}
            app.command(verb, rich_help_panel=panel, context_settings=loose)(what)
    return app


def _asked(arguments: Sequence[str]) -> Iterable[str]:
    """The verbs that these arguments may need: the one that is named, or all, for help, completion and mistakes."""
    words = iter(arguments)
    for word in words:
        if word == "--config":
            next(words, None)
        elif not word.startswith("-"):
            return (word,) if word in VERBS else VERBS
        elif not word.startswith("--config="):
            break
    return VERBS


def main() -> None:
    """Run the command line and exit with its code."""
    code = run_command(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or FAILED
    sys.exit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. What is wrong is said on stderr."""
    try:
        command_line(_asked(arguments))(list(arguments), prog_name="qxfleet")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else FAILED
    except KeyboardInterrupt:
        return 130
    except ConfigError as error:
        for problem in error.problems:
            complain(problem)
        return USAGE
    except AgentUnreachable as error:
        complain(str(error))
        return NO_AGENT
    except AgentRefused as error:
        complain(str(error))
        return USAGE if error.code in ("unknown-target", "bad-request") else FAILED
    except PermissionError as error:
        complain(f"not permitted: {error}")
        return NOT_PERMITTED
    except LinkUnavailable as error:
        complain(str(error))
        return NOT_PERMITTED if error.hopeless else FAILED
    except QxfleetError as error:
        complain(str(error))
        return FAILED
    return 0
