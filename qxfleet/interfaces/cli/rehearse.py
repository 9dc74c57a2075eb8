"""``rehearse``: the whole plan tried on a desk, with simulated UPSes and hosts in the place of the real ones."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qxfleet.errors import ConfigError
from qxfleet.interfaces.cli.output import Json, coloured, complain, console, emit, printable
from qxfleet.interfaces.cli.shutdown_rehearsal import Known, Runtime, clock, duration_s, known_of, targets_of

if TYPE_CHECKING:
    from rich.progress import Progress

    from qxfleet.testing.rehearsal import Outcome, Play, Said

COLOURS = {"problem": "red", "risk": "yellow", "note": None}
LOUD = {"lost": "red", "mains-off": "yellow", "mains-on": "green", "load-stuck": "red", "load-not-seen-off": "yellow"}


def rehearse(
    context: typer.Context,
    fail: Annotated[
        str, typer.Option("--fail", metavar="UPS,…", help="UPSes that lose mains: names, group:NAME, or all.")
    ] = "all",
    back: Annotated[
        str | None,
        typer.Option("--back", metavar="20m", help="How long mains are away; without, until everything is down and off."),
    ] = None,
    back_on: Annotated[
        str | None,
        typer.Option("--back-on", metavar="UPS,…", help="Where they come back first; the rest follows once all is quiet."),
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0.1, max=10000, help="So many times real time, as far as this machine keeps up.")
    ] = 1.0,
    runtime: Runtime = None,
    batteries: Annotated[
        int, typer.Option("--batteries", min=5, max=100, metavar="PERCENT", help="What batteries hold of what they promise.")
    ] = 100,
    hang: Annotated[
        list[str] | None, typer.Option("--hang", metavar="LOAD", help="It takes the order to stop, and stays up.")
    ] = None,
    refuse: Annotated[list[str] | None, typer.Option("--refuse", metavar="LOAD", help="It takes no order to stop.")] = None,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write the results as one HTML page.", dir_okay=False)
    ] = None,
    json: Json = False,
) -> None:
    """Try the whole shutdown plan on this desk: mains fail and come back, simulated UPSes and hosts do what they are told.

    The agent that acts is the real one, armed, on simulated UPSes and hosts. No real device, host or webhook is touched, nor is
    the running agent, which is only asked what it knows of batteries and of how long stops take. Ctrl-C ends it.

    Exit code 0: the plan holds; 1: it does not.
    """
    import logging

    from qxfleet.interfaces import rehearsal_page
    from qxfleet.testing.desk import Desk
    from qxfleet.testing.rehearsal import Play
    from qxfleet.testing.virtual import run_virtual

    known = known_of(context.obj, runtime)
    if not known.plan.loads:
        raise ConfigError(["no [[load]] is configured: there is nothing to rehearse"])
    failing = targets_of(fail, known, "--fail")
    first = targets_of(back_on, known, "--back-on") if back_on is not None else failing
    if odd := [ups for ups in first if ups not in failing]:
        raise ConfigError([f"--back-on: mains of {', '.join(odd)} do not fail: name UPSes of --fail"])
    hangs, refuses = tuple(hang or ()), tuple(refuse or ())
    for option, names in (("--hang", hangs), ("--refuse", refuses)):
        if unknown := [name for name in names if name not in known.plan.named]:
            raise ConfigError([f"{option} {unknown[0]}: no load has that name"])
    back_s = None if back is None else duration_s(back, "--back")
    if page is not None:
        rehearsal_page.check(page)
    logging.getLogger("qxfleet").setLevel(logging.CRITICAL)  # what goes wrong on the desk is told as it happens
    desk = Desk(known.config_with_plan(), known.batteries, hangs=hangs, refuses=refuses, truth=batteries / 100)
    show = _Show(known, desk_assumes=desk.assumed, speed=speed, quiet=json)
    with tempfile.TemporaryDirectory(prefix="qxfleet-rehearse-") as folder:
        play = Play(desk, known.config, Path(folder), failing, back_s=back_s, back=first, watch=show)
        try:
            with show:
                run_virtual(play.run(), speed)
        except KeyboardInterrupt:
            play.outcome.broken_off = True
            complain("broken off; everything the rehearsal made is gone")
    outcome = play.outcome
    document = _document(known, outcome, speed, batteries)
    if page is not None:
        page.write_text(rehearsal_page.page(known.plan, outcome, document))
    if json:
        emit(document)
    else:
        for line in verdict(known, outcome):
            typer.echo(line)
    if page is not None:
        complain(f"written: {page}")
    if outcome.broken_off:
        raise typer.Exit(130)
    if not outcome.holds:
        raise typer.Exit(1)


class _Show:
    """What is told while it runs: lines as they come, and on a terminal a bar below them."""

    def __init__(self, known: Known, *, desk_assumes: Sequence[str], speed: float, quiet: bool) -> None:
        self._known, self._speed, self._quiet, self._assumed = known, speed, quiet, desk_assumes
        self._said = 0
        self._progress: Progress | None = None
        self._bar: Any = None

    def __enter__(self) -> None:
        from qxfleet.shutdown.triggers import spell_s

        if self._quiet:
            return
        typer.echo("REHEARSAL on simulated UPSes and hosts. No real device, host or webhook is touched.")
        for ups in self._known.plan.fed:
            battery = self._known.batteries.get(ups)
            lasts = "is not known; 15 min are taken" if battery is None else spell_s(battery.runtime_s)
            typer.echo(printable(f"  {ups}: battery at the present load {lasts}"))
        pace = "in real time" if self._speed == 1 else f"at {self._speed:g} times real time"
        typer.echo(f"It runs {pace}; Ctrl-C ends it.\n\n min:sec since mains failed")
        sys.stdout.flush()
        if sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn

            self._progress = Progress(
                TextColumn("{task.fields[at]:>8}"), BarColumn(24), TextColumn("{task.description}"), console=console(),
                transient=True,
            )  # fmt: skip
            self._progress.start()
            self._bar = self._progress.add_task("in contact soon", total=2 * len(self._known.plan.loads), at="")

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, play: Play) -> None:
        """Called at every tick of the rehearsal."""
        if self._quiet:
            return
        said = play.outcome.said
        for each in said[self._said :]:
            if self._progress is not None:
                from rich.text import Text

                self._progress.console.print(Text.from_ansi(line(each)))
            else:
                typer.echo(line(each))
                sys.stdout.flush()
        self._said = len(said)
        if self._progress is not None:
            self._progress.update(self._bar, completed=_done(play), at=clock(max(play.now_s, 0.0)), description=_headline(play))


def _done(play: Play) -> int:
    """Loads that were stopped, and those of them that are back."""
    from qxfleet.testing.loads import HostState

    stopped = [host for host in play.desk.room.hosts.values() if any(state is HostState.DOWN for _, state in host.changes)]
    return len(stopped) + sum(host.state is HostState.UP for host in stopped)


def _headline(play: Play) -> str:
    from qxfleet.shutdown import telling

    part = play.status
    if part is None:
        return "the agent's own host is down, and the agent with it"
    return telling.headline(part.plan, part.record, part.decision, part.world, running=part.running, armed=True)


def line(said: Said) -> str:
    """One line of the timeline."""
    colour = LOUD.get(said.name)
    return printable(f"{clock(said.at_s):>8}  ") + coloured(printable(said.text), colour)


def verdict(known: Known, outcome: Outcome) -> list[str]:
    """What came of it, for the terminal."""
    lines = [""]
    lines += [printable(f"The run ended: {text}") for text in outcome.ended]
    for each in outcome.findings:
        lines.append(coloured(f"{each.severity.upper():<8}", COLOURS[each.severity]) + printable(f" {each.subject}: {each.text}"))
    lines.append(coloured(headline(outcome), "green" if outcome.holds else "red"))
    if known.armed is False or (known.armed is None and not known.plan.armed):
        text = "The plan is not armed: in a real outage nothing would be stopped. `qxfleet shutdown arm` arms it."
        lines.append(coloured(text, "yellow"))
    return lines


def headline(outcome: Outcome) -> str:
    """The verdict in one line, the same on every face."""
    from qxfleet.shutdown.ending import count
    from qxfleet.shutdown.triggers import spell_s

    if outcome.broken_off:
        return f"BROKEN OFF after {spell_s(outcome.took_s)}: it says nothing about the plan."
    if outcome.holds:
        return f"THE PLAN HOLDS. It took {spell_s(outcome.took_s)}."
    problems = sum(each.severity == "problem" for each in outcome.findings)
    return f"THE PLAN DOES NOT HOLD: {count(problems, 'problem')}."



def _document(known: Known, outcome: Outcome, speed: float, batteries: int) -> dict[str, Any]:
    began_us = outcome.began_us
    return {
        "holds": outcome.holds, "broken_off": outcome.broken_off, "headline": headline(outcome),
        "failing": list(outcome.failing), "back_s": outcome.back_s, "took_s": round(outcome.took_s, 1),
        "speed": speed, "batteries_percent": batteries,
        "armed": known.plan.armed if known.armed is None else known.armed,
        "ended": outcome.ended,
        "findings": [{"severity": each.severity, "subject": each.subject, "text": each.text} for each in outcome.findings],
        "standing": outcome.standing,
        "timeline": [
            {"at_s": round(each.at_s, 1), "name": each.name, "text": each.text, "severity": each.severity.name.lower()}
            for each in outcome.said
        ],
        "steps": [
            {"at_s": round((step.begun_us - began_us) / 1e6, 1), "act": step.act, "target": step.target,
             "try": step.step.get("attempt", 1), "why": step.step.get("why", ""), "answer": step.answer, "result": step.result,
             "for_s": None if step.ended_us is None else round((step.ended_us - step.begun_us) / 1e6, 1), "text": step.text}
            for step in outcome.steps
        ],
        "loads": {name: [{"from_s": round(each.from_s, 1), "to_s": round(each.to_s, 1), "state": each.state} for each in spans]
                  for name, spans in outcome.loads.items()},
        "ups": {name: [{"from_s": round(each.from_s, 1), "to_s": round(each.to_s, 1), "state": each.state} for each in spans]
                for name, spans in outcome.upses.items()},
    }  # fmt: skip
