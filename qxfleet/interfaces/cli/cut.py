"""``cut``: have UPSes cut their power by their own options, with the agent or without: what ``upsdrvctl shutdown`` does."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qxfleet.api import requests
from qxfleet.api.responses import OrderTold
from qxfleet.errors import AgentUnreachable, ConfigError
from qxfleet.interfaces.cli.client import ORDER_S, ask, control_socket
from qxfleet.interfaces.cli.orders import SENTENCES, Yes, behind, consent
from qxfleet.interfaces.cli.output import Json, coloured, complain, emit, printable

if TYPE_CHECKING:
    from qxfleet.config.load import Config
    from qxfleet.model.options import UpsOptions

PROGRAMS = "/lib/nut:/usr/lib/nut:/usr/libexec/nut:/sbin:/usr/sbin"
"""Where upsmon is; Debian's in /sbin is a wrapper that says 0 of everything while NUT is not configured."""

HELD_S = 60.0
"""How long a port that somebody else holds is waited for."""


def cut(
    context: typer.Context,
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET...", help="UPSes by name, group:NAME, or all.")
    ] = None,
    yes: Yes = False,
    hook: Annotated[
        bool, typer.Option("--hook", help="For the machine's last hook: only if a forced shutdown is under way, and no question.")
    ] = False,
    json: Json = False,
) -> None:
    """Tell UPSes to cut their power, by their own options `stayoff`, `offdelay` and `ondelay`.

    What is pending on them is cancelled first. Through the agent where one runs, else by the configuration's ports, waiting for
    whoever holds one. Exit code 1 if a UPS did not take it.
    """
    from qxfleet.config.load import load

    config = load(context.obj)
    if hook:
        upses = _forced(config, context.obj)
        if not upses:
            complain("no forced shutdown is under way: nothing is cut")
            return
    else:
        upses = _meant(targets or [], config)
        loads = sorted({load.name for ups in upses for load in config.shutdown.fed.get(ups.name, ())})
        consent(f"This cuts the power of {', '.join(ups.name for ups in upses)}. {behind(loads)}", yes=yes)
    results = _through_agent(context.obj, upses)
    if results is None:
        results = _alone(upses)
    if json:
        emit({"cut": [{key: each[key] for key in ("ups", "name", "outcome", "reply", "text")} for each in results]})
    else:
        for each in results:
            word = coloured(each["outcome"], "green" if each["outcome"] == "accepted" else "red")
            text = "; ".join(filter(None, (SENTENCES[each["outcome"]], printable(each["text"]))))
            typer.echo(f"{each['ups']} {each['name']}: {word} ({text})")
    if any(each["outcome"] != "accepted" for each in results):
        raise typer.Exit(1)


def _meant(targets: Sequence[str], config: Config) -> list[UpsOptions]:
    from qxfleet.config.targets import Member, select

    if not targets:
        raise typer.BadParameter("name UPSes, group:NAME or all", param_hint="TARGET")
    fleet = [Member(ups.name, ups.groups, ups.dialect) for ups in config.ups]
    try:
        chosen = {name for target in targets for name in select(target, fleet)}
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    return [ups for ups in config.ups if ups.name in chosen]


def _forced(config: Config, path: Path | None) -> list[UpsOptions]:
    """What this machine's last hook is to cut: what the agent's mark of this boot names; else, where upsmon has set its
    POWERDOWNFLAG, the UPSes that feed this machine."""
    from qxfleet.shutdown.mark import MARK, read_mark

    known = {ups.name: ups for ups in config.ups}
    file = config.agent.control.parent / MARK
    try:
        mark = read_mark(file)
    except ValueError as error:
        complain(str(error))
        mark = None
    if mark is not None:
        for name in mark.upses:
            if name not in known:
                complain(f"{name}: the agent's mark names it, the configuration does not")
        marked = [known[name] for name in mark.upses if name in known]
        return [replace(ups, stayoff=True) for ups in marked] if mark.stay_off else marked
    if not _powerdown_flag():
        return []
    plan = config.shutdown
    feeding = plan.named[plan.host].fed_by if plan.host is not None else _monitored()
    if not (own := [known[name] for name in feeding if name in known]):
        complain("upsmon has set its POWERDOWNFLAG, but nothing says which UPS feeds this machine: write [shutdown] host")
    return own


def _powerdown_flag() -> bool:
    """Whether upsmon has ordered this shutdown: `upsmon -K` tells by its exit code (upsmon(8))."""
    upsmon = shutil.which("upsmon", path=PROGRAMS)
    if upsmon is None or not _upsmon_conf().exists():
        return False
    try:
        return subprocess.run([upsmon, "-K"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _upsmon_conf() -> Path:
    return Path(os.environ.get("NUT_CONFPATH", "/etc/nut")) / "upsmon.conf"


def _monitored() -> list[str]:
    """UPSes that this machine's upsmon watches here, on this machine."""
    from qxfleet.config.nut.upsmon import monitored_here

    try:
        return monitored_here(_upsmon_conf().read_text())
    except OSError:
        return []


def _through_agent(path: Path | None, upses: Sequence[UpsOptions]) -> list[OrderTold] | None:
    """What the running agent made of it; None where none runs."""
    results = []
    where = control_socket(path)
    for ups in upses:
        try:
            ask(where, requests.Command(ups.name, "shutdown.stop"), ORDER_S)
            results.append(ask(where, requests.Command(ups.name, "shutdown.default"), ORDER_S))
        except AgentUnreachable:
            return None
    return results


def _alone(upses: Sequence[UpsOptions]) -> list[OrderTold]:
    import asyncio

    from qxfleet.agent.agent import open_transport
    from qxfleet.api.shapes import order_told
    from qxfleet.session.cutting import cut_alone

    async def all_of_them() -> list[OrderTold]:
        results = await asyncio.gather(*(cut_alone(ups, open_transport, HELD_S) for ups in upses))
        return [order_told(result) for result in results]

    return asyncio.run(all_of_them())
