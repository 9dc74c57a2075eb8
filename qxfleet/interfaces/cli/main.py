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
    agents,
    audit,
    battery,
    check,
    cut,
    db,
    demo,
    discover,
    events,
    fleet,
    history,
    import_nut,
    maintenance,
    orders,
    outages,
    probe,
    profile,
    rehearse,
    report,
    report_device,
    run,
    schedule,
    shutdown,
    simulate,
    test,
    token,
    top,
    user,
)  # fmt: skip
from qxfleet.interfaces.cli import (
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



            app.add_typer(what, name=verb, rich_help_panel=panel)
            app.command(verb, rich_help_panel=panel, context_settings=loose)(what)
            break
            loose = {"ignore_unknown_options": True} if verb in DEVICE_WORDS else {}
            next(words, None)
            return (word,) if word in VERBS else VERBS
        add_completion=True,
        callback=options,
        context_settings={"help_option_names": ["-h", "--help"]},
        elif not word.startswith("-"):
        elif not word.startswith("--config="):
        else:
        if isinstance(what, typer.Typer):
        if word == "--config":
        module, name = place.split(".")
        name="qxfleet",
        no_args_is_help=True,
        panel, place = VERBS[verb]
        pretty_exceptions_enable=False,
        what = getattr(import_module(f"qxfleet.interfaces.cli.{module}"), name)
    """The command line with these verbs, in the order of the help."""
    """The verbs that these arguments may need: the one that is named, or all, for help, completion and mistakes."""
    "audit": (ONE, "audit.audit"),
    "battery": (ONE, "battery.app"),
    "check": (AGENT, "check.check"),
    "command": (ONE, "orders.command"),
    "commands": (ONE, "fleet.commands"),
    "cut": (DATABASE, "cut.cut"),
    "db": (DATABASE, "db.app"),
    "demo": (TRYING, "demo.demo"),
    "discover": (DATABASE, "discover.discover"),
    "events": (ONE, "events.events"),
    "fleet": (ONE, "agents.app"),
    "history": (ONE, "history.history"),
    "import-nut": (DATABASE, "import_nut.import_nut"),
    "maintenance": (ONE, "maintenance.app"),
    "outages": (ONE, "outages.outages"),
    "probe": (DATABASE, "probe.probe"),
    "profile": (ONE, "profile.app"),
    "report": (ONE, "report.report"),
    "report-device": (DATABASE, "report_device.report_device"),
    "run": (AGENT, "run.run"),
    "schedule": (ONE, "schedule.app"),
    "set": (ONE, "orders.set_"),
    "settings": (ONE, "fleet.settings"),
    "shutdown": (ONE, "shutdown.app"),
    "simulate": (TRYING, "simulate.simulate"),
    "status": (ONE, "fleet.status"),
    "test": (ONE, "test.app"),
    "token": (ONE, "token.app"),
    "top": (ONE, "top.top"),
    "user": (DATABASE, "user.app"),
    "vars": (ONE, "fleet.variables"),
    )
    app = typer.Typer(
    for verb in verbs:
    for word in words:
    return VERBS
    return app
    words = iter(arguments)
"""Verb to its heading in the help, and where it is: module and name in this package, imported when the verb is asked for."""
"""Verbs whose words for a device may begin with a dash."""
DEVICE_WORDS = ("command", "set")
VERBS: Mapping[str, tuple[str, str]] = {
app.add_typer(agents.app, name="fleet", rich_help_panel=ONE)
app.add_typer(battery.app, name="battery", rich_help_panel=ONE)
app.add_typer(db.app, name="db", rich_help_panel=DATABASE)
app.add_typer(maintenance.app, name="maintenance", rich_help_panel=ONE)
app.add_typer(profile.app, name="profile", rich_help_panel=ONE)
app.add_typer(schedule.app, name="schedule", rich_help_panel=ONE)
app.add_typer(shutdown.app, name="shutdown", rich_help_panel=ONE)
app.add_typer(test.app, name="test", rich_help_panel=ONE)
app.add_typer(token.app, name="token", rich_help_panel=ONE)
app.add_typer(user.app, name="user", rich_help_panel=DATABASE)
app.command("audit", rich_help_panel=ONE)(audit.audit)
app.command("check", rich_help_panel=AGENT)(check.check)
app.command("command", rich_help_panel=ONE, context_settings={"ignore_unknown_options": True})(orders.command)
app.command("commands", rich_help_panel=ONE)(fleet.commands)
app.command("cut", rich_help_panel=DATABASE)(cut.cut)
app.command("demo", rich_help_panel=TRYING)(demo.demo)
app.command("discover", rich_help_panel=DATABASE)(discover.discover)
app.command("events", rich_help_panel=ONE)(events.events)
app.command("history", rich_help_panel=ONE)(history.history)
app.command("import-nut", rich_help_panel=DATABASE)(import_nut.import_nut)
app.command("outages", rich_help_panel=ONE)(outages.outages)
app.command("probe", rich_help_panel=DATABASE)(probe.probe)
app.command("rehearse", rich_help_panel=TRYING)(rehearse.rehearse)
app.command("report", rich_help_panel=ONE)(report.report)
app.command("report-device", rich_help_panel=DATABASE)(report_device.report_device)
app.command("run", rich_help_panel=AGENT)(run.run)
app.command("set", rich_help_panel=ONE, context_settings={"ignore_unknown_options": True})(orders.set_)
app.command("settings", rich_help_panel=ONE)(fleet.settings)
app.command("simulate", rich_help_panel=TRYING)(simulate.simulate)
app.command("status", rich_help_panel=ONE)(fleet.status)
app.command("top", rich_help_panel=ONE)(top.top)
app.command("vars", rich_help_panel=ONE)(fleet.variables)
def _asked(arguments: Sequence[str]) -> Iterable[str]:
def command_line(verbs: Iterable[str] = VERBS) -> typer.Typer:
}


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
