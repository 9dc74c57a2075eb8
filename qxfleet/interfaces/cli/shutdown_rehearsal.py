"""``shutdown check`` and ``shutdown simulate``: is the plan sound, and what would it do in an outage that is only imagined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qxfleet.api import requests
from qxfleet.api.responses import UpsOutlook
from qxfleet.config.durations import parse_duration
from qxfleet.errors import AgentUnreachable, ConfigError
from qxfleet.interfaces.cli.client import ask, control_socket
from qxfleet.interfaces.cli.output import Json, coloured, complain, emit, print_table, printable

if TYPE_CHECKING:
    from qxfleet.config.load import Config
    from qxfleet.model.loads import Plan
    from qxfleet.shutdown.findings import Finding, Inspection, Time
    from qxfleet.shutdown.rehearse import Battery, Moment, Rehearsal

Runtime = Annotated[
    str | None,
    typer.Option(
        "--runtime", metavar="12m|NAME=12m,…",
        help="How long batteries last at the present load; for all, or by name. Without: as the agent predicts it.",
    ),
]  # fmt: skip

WORSE_PERCENT = 20
COLOURS = {"problem": "red", "risk": "yellow", "note": None}
MANY = 6
"""Names in one line of the timeline; the rest is counted."""


@dataclass(frozen=True)
class Known:
    """The plan, and what is known of it now."""

    config: Config
    plan: Plan
    batteries: Mapping[str, Battery]
    armed: bool | None
    able: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The orders that each UPS takes, where that is known."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Why the runtime of a UPS is not known."""

    def config_with_plan(self) -> Config:
        """The configuration, with what the running agent has learned of its plan."""
        return replace(self.config, shutdown=self.plan)


def check(
    context: typer.Context,
    runtime: Runtime = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Without an agent: ask the UPSes what they can do and how long they last.")
    ] = False,
    json: Json = False,
) -> None:
    """Look for what is wrong with the shutdown plan: does it fit the batteries, what can't be stopped, what dies with which UPS.

    Touches nothing. Exit code 1 if a problem was found.
    """
    from qxfleet.shutdown.findings import inspect

    known = known_of(context.obj, runtime, probe=probe)
    found = inspect(known.plan, known.batteries, armed=known.armed, able=known.able, unknown=known.unknown)
    if json:
        emit(_inspection_document(known, found))
    else:
        _print_inspection(known, found)
    if not found.sound:
        raise typer.Exit(1)


def simulate(
    context: typer.Context,
    fail: Annotated[str, typer.Option("--fail", metavar="UPS,…", help="UPSes that lose mains: names, group:NAME, or all.")],
    runtime: Runtime = None,
    back: Annotated[
        str | None, typer.Option("--back", metavar="40m", help="When mains come back; without, they stay away.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw it too, as PNG or SVG.", dir_okay=False)
    ] = None,
    json: Json = False,
) -> None:
    """Show what the plan would do in an outage, minute by minute. Touches nothing.

    Exit code 1 if a load would lose its power while it runs.
    """
    from qxfleet.shutdown.rehearse import WORSE, rehearse

    known = known_of(context.obj, runtime)
    if not known.plan.loads:
        raise ConfigError(["no [[load]] is configured: there is nothing to rehearse"])
    failing = targets_of(fail, known, "--fail")
    missing = [ups for ups in failing if ups not in known.batteries]
    if missing:
        where = "no agent runs that could predict it" if known.armed is None else "the agent can't predict it yet"
        raise ConfigError([f"the runtime of {', '.join(missing)} is not known, {where}: give it by --runtime 12m"])
    back_s = None if back is None else duration_s(back, "--back")
    if plot is not None and plot.suffix.lower() not in (".png", ".svg"):
        raise ConfigError([f"--plot {plot}: expected a name that ends in .png or .svg"])
    story = rehearse(known.plan, known.batteries, failing, back_s=back_s)
    worse = rehearse(known.plan, known.batteries, failing, back_s=back_s, truth=WORSE)
    if json:
        emit(_story_document(known, story, worse))
    else:
        _print_story(known, story, worse)
    if plot is not None:
        from qxfleet.interfaces.rehearsal_plot import draw

        draw(known.plan, story, plot)
        complain(f"drawn: {plot}")
    if not story.fits:
        raise typer.Exit(1)


# -- what is known


def known_of(path: Path | None, runtime: str | None, *, probe: bool = False) -> Known:
    """The plan, and what the running agent, the UPSes themselves (``probe``) or ``--runtime`` say of it."""
    from qxfleet.config.load import load

    config = load(path)
    batteries: dict[str, Battery] = {}
    able: dict[str, frozenset[str]] = {}
    unknown: dict[str, str] = {}
    plan, armed = config.shutdown, None
    try:
        outlook = ask(control_socket(path), requests.ShutdownOutlook())
    except AgentUnreachable:
        hint = "" if runtime or probe else "; --runtime gives one, and `shutdown check --probe` asks the UPSes"
        complain(f"no agent runs here: runtimes, and what stops took before, are not known{hint}")
    else:
        armed = outlook["armed"]
        learned = outlook["learned_s"]
        plan = replace(plan, loads=tuple(replace(each, learned_s=learned.get(each.name)) for each in plan.loads))
        for name, seen in outlook["ups"].items():
            _take(name, seen, batteries, able, unknown)
    if probe:
        complain("asking the UPSes themselves; nothing but questions is sent")
        for name, seen in _probed(config, plan).items():
            _take(name, seen, batteries, able, unknown)
    given = _given(runtime, config, plan)
    batteries.update(given)
    return Known(config, plan, batteries, armed, able, {ups: why for ups, why in unknown.items() if ups not in batteries})


def _take(
    name: str, seen: UpsOutlook, batteries: dict[str, Battery], able: dict[str, frozenset[str]], unknown: dict[str, str]
) -> None:
    """What the agent, or a UPS itself, told."""
    from qxfleet.shutdown.rehearse import Battery

    if seen["runtime_s"]:
        batteries[name] = Battery(
            seen["runtime_s"], seen["runtime_low_s"], seen["charge"] or 100.0, seen["load_w"], seen["rated_w"], asked=True
        )  # fmt: skip
    elif seen["unknown"]:
        unknown[name] = seen["unknown"]
    if seen["orders"] is not None:
        able[name] = frozenset(seen["orders"])


def _probed(config: Config, plan: Plan) -> dict[str, UpsOutlook]:
    """What the UPSes of a plan say themselves, all asked at once; one that does not answer has told nothing."""
    import asyncio

    from qxfleet.agent.agent import open_transport
    from qxfleet.errors import DialectUnknown, LinkError
    from qxfleet.model.clock import Clock
    from qxfleet.model.electrical import number, present_watts, rated_watts
    from qxfleet.session.probe import probe

    async def one(ups: Any) -> tuple[str, UpsOutlook]:
        try:
            found = await probe(ups, open_transport(ups), Clock())
        except (LinkError, DialectUnknown) as error:
            complain(f"{ups.name}: {error}")
            return ups.name, {
                "runtime_s": None, "runtime_low_s": None, "charge": None, "load_w": None, "rated_w": None, "orders": None,
                "unknown": "it does not answer",
            }  # fmt: skip
        values = found.reading.values
        facts = config.batteries.get(ups.name)
        rated = facts.rated_w if facts is not None else None
        return ups.name, {
            "runtime_s": number(values, "battery.runtime"), "runtime_low_s": None, "charge": number(values, "battery.charge"),
            "load_w": present_watts(values, rated), "rated_w": rated_watts(values, rated),
            "orders": [order.name for order in found.orders],
            "unknown": "it tells none, and no runtimecal is configured; a running agent learns it from discharges",
        }  # fmt: skip

    async def all_of_them() -> list[tuple[str, UpsOutlook]]:
        return await asyncio.gather(*(one(ups) for ups in config.ups if ups.name in plan.fed))

    return dict(asyncio.run(all_of_them()))


def _given(runtime: str | None, config: Config, plan: Plan) -> dict[str, Battery]:
    from qxfleet.shutdown.rehearse import Battery

    given: dict[str, Battery] = {}
    upses = [ups.name for ups in config.ups]
    for part in (runtime or "").split(",") if runtime else ():
        name, mark, text = part.strip().rpartition("=")
        if mark and name not in upses:
            raise ConfigError([f"--runtime {part.strip()}: no UPS is named {name}"])
        seconds = duration_s(text, "--runtime")
        if seconds <= 0:
            raise ConfigError([f"--runtime {text}: a battery that lasts no time at all: write a duration above 0"])
        given.update(dict.fromkeys([name] if mark else upses, Battery(seconds)))
    return given


def duration_s(text: str, option: str) -> float:
    """A duration that an option was given. Raises ConfigError."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError([f"{option}: {error}"]) from error


def targets_of(targets: str, known: Known, option: str) -> list[str]:
    """UPSes by name, ``group:NAME`` or ``all``, each once, in the fleet's order. Raises ConfigError."""
    from qxfleet.config.findings import did_you_mean

    upses = known.config.ups
    chosen: set[str] = set()
    for target in filter(None, (part.strip() for part in targets.split(","))):
        group = target.removeprefix("group:") if target.startswith("group:") else None
        found = {ups.name for ups in upses if target in ("all", ups.name) or (group is not None and group in ups.groups)}
        if not found:
            names = {group for ups in upses for group in ups.groups} if group is not None else {ups.name for ups in upses}
            what = f"no UPS is in group {group}" if group is not None else f"no UPS is named {target}"
            raise ConfigError([f"{option} {target}: {what}{did_you_mean(group or target, names)}"])
        chosen |= found
    feeding = [ups.name for ups in upses if ups.name in chosen and ups.name in known.plan.fed]
    if not feeding:
        raise ConfigError([f"{option} {targets}: no load hangs on any of these: name UPSes that feed a [[load]]"])
    return feeding


# -- check


def _print_inspection(known: Known, found: Inspection) -> None:
    from qxfleet.shutdown.triggers import spell_s

    if not known.plan.loads:
        typer.echo("no [[load]] is configured: nothing would be stopped")
        return
    columns = [("UPS", "left"), ("STOPPING TAKES", "right"), ("BATTERY LASTS", "right"), ("AT LEAST", "right"),
               ("TO SPARE", "right"), ("LONGEST CHAIN", "left")]  # fmt: skip
    print_table(columns, [_time_row(time) for time in found.times])
    typer.echo("")
    rows = [
        [(ups, "bold"), (", ".join(found.dies[ups]) or "nothing", "red" if found.dies[ups] else "green"),
         (", ".join(found.stays[ups]) or "-", None)]
        for ups in known.plan.fed
    ]  # fmt: skip
    print_table([("IF THIS UPS DIES", "left"), ("LOSES POWER", "left"), ("KEPT BY ANOTHER FEED", "left")], rows)
    typer.echo("")
    for each in _gathered(found.findings):
        word = coloured(f"{each.severity.upper():<8}", COLOURS[each.severity])
        typer.echo(word + printable(f" {each.subject}: {each.text}"))
        if each.remedy:
            typer.echo(printable(f"         → {each.remedy}"))
    worst = found.together
    if worst is not None and worst.fits:
        last_s = max((moment.at_s for moment in worst.moments if moment.kind == "down"), default=0.0)
        typer.echo(f"If all mains fail at once, what can be stopped is down after {spell_s(last_s)}, with power to spare.")
    count = sum(each.severity == "problem" for each in found.findings)
    problems = f"{count or 'no'} problem{'' if count == 1 else 's'}"
    typer.echo(f"{len(known.plan.loads)} loads on {len(known.plan.fed)} UPSes: {problems}")


def _gathered(findings: Iterable[Finding]) -> list[Finding]:
    """Findings that say the same of many are said once."""
    from qxfleet.shutdown.findings import Finding

    together: dict[tuple[str, str, str], list[str]] = {}
    for each in findings:
        together.setdefault((each.severity, each.text, each.remedy), []).append(each.subject)
    return [Finding(severity, _some(names), text, remedy) for (severity, text, remedy), names in together.items()]  # type: ignore[arg-type]


def _time_row(time: Time) -> list[tuple[str, str | None]]:
    from qxfleet.shutdown.triggers import spell_s

    def told(seconds: float | None) -> str:
        return "unknown" if seconds is None else spell_s(seconds)

    spare = told(time.spare_s) if time.spare_s is None or time.spare_s >= 0 else f"{spell_s(-time.spare_s)} SHORT"
    colour = None if time.fits is None else "green" if time.fits else "red"
    low = time.runtime_low_s if time.runtime_low_s is not None else time.runtime_s
    chain = " → ".join(time.chain[:MANY]) + (f" → {len(time.chain) - MANY} more" if len(time.chain) > MANY else "")
    return [(time.ups, "bold"), (spell_s(time.needs_s), None), (told(time.runtime_s), None), (told(low), None),
            (spare, colour), (chain or "-", None)]  # fmt: skip


def _inspection_document(known: Known, found: Inspection) -> dict[str, Any]:
    return {
        "armed": known.plan.armed if known.armed is None else known.armed,
        "loads": len(known.plan.loads),
        "findings": [
            {"severity": each.severity, "subject": each.subject, "text": each.text, "remedy": each.remedy or None}
            for each in found.findings
        ],
        "ups": [
            {
                "ups": time.ups, "needs_s": time.needs_s, "chain": list(time.chain), "runtime_s": time.runtime_s,
                "runtime_low_s": time.runtime_low_s, "spare_s": time.spare_s, "fits": time.fits,
                "if_dies": {"loses_power": list(found.dies[time.ups]), "kept": list(found.stays[time.ups])},
            }
            for time in found.times
        ],
        "problems": sum(each.severity == "problem" for each in found.findings),
    }  # fmt: skip


# -- simulate


def _print_story(known: Known, story: Rehearsal, worse: Rehearsal) -> None:
    from qxfleet.shutdown.triggers import spell_s

    typer.echo("REHEARSAL. Nothing is touched; this is what the plan would do.")
    for ups in story.failing:
        battery = known.batteries[ups]
        least = "" if battery.runtime_low_s is None else f", {spell_s(battery.runtime_low_s)} at least"
        typer.echo(f"  {ups}: battery lasts {spell_s(battery.runtime_s)} at the present load{least}")
    typer.echo("\n min:sec since mains failed")
    for moment in story.moments:
        if moment.kind != "end":
            typer.echo(_line(moment))
    typer.echo("")
    for line in _verdict(known, story, worse):
        typer.echo(line)


WORDS = {
    "mains-off": ("MAINS FAIL", "yellow"), "mains-on": ("MAINS BACK", "green"), "stop": ("STOP", "yellow"),
    "down": ("down", None), "failed": ("NOT DOWN", "red"), "low-battery": ("LOW BATTERY", "red"), "cut": ("TELL UPS", "yellow"),
    "off": ("ups off", None), "dead": ("UPS DEAD", "red"), "on": ("ups on", "green"), "start": ("START", "green"),
    "up": ("up", "green"), "call-back": ("CALL BACK", "yellow"), "switch-on": ("SWITCH ON", "green"), "lost": ("LOST", "red"),
    "by-hand": ("BY HAND", "red"),
}  # fmt: skip


def _line(moment: Moment) -> str:
    from qxfleet.shutdown.triggers import spell_s

    word, colour = WORDS[moment.kind]
    gain = f"; runtime + {spell_s(moment.gain_s)}" if moment.gain_s is not None and moment.gain_s >= 1 else ""
    who = _some(moment.targets)
    said = f"{who}: {moment.text}" if moment.kind not in ("mains-off", "mains-on", "by-hand") else moment.text
    return printable(f"{clock(moment.at_s):>8}  ") + coloured(f"{word:<12}", colour) + printable(f" {said}{gain}")


def clock(seconds: float) -> str:
    """Time since mains failed: ``4:05``, ``1:04:05``."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MANY]) + (f" and {len(names) - MANY} more" if len(names) > MANY else "")


def _verdict(known: Known, story: Rehearsal, worse: Rehearsal) -> list[str]:
    from qxfleet.shutdown.triggers import spell_s

    lines = []
    if not any(moment.kind == "mains-on" for moment in story.moments):
        lines.append("Here mains stay away; --back 40m shows how everything comes back.")
    if story.lost:
        names = _some(sorted(story.lost, key=lambda name: story.lost[name]))
        lines.append(coloured(f"IT DOES NOT FIT: {names} would lose power while running.", "red"))
        if unstoppable := [name for name in story.lost if known.plan.named[name].stop is None]:
            lines.append(f"  {_some(unstoppable)}: no stop is configured.")
    elif not story.stopped:
        lines.append(coloured("Nothing has to be stopped: enough good feeds remain, or mains are back in time.", "green"))
    else:
        lines.append(coloured(f"IT FITS: {_count(story.stopped)} stopped, none loses power while it runs.", "green"))
    if story.slack is not None and not story.lost:
        lines.append(f"Tightest: {story.slack.ups} has {spell_s(story.slack.left_s)} left when {story.slack.load} is down.")
    if not story.lost and story.stopped:
        if worse.lost:
            names = _some(sorted(worse.lost, key=lambda name: worse.lost[name]))
            text = f"If the batteries last {WORSE_PERCENT} % less than predicted: {names} would lose power while running."
            lines.append(coloured(text, "yellow"))
        else:
            lines.append(f"If the batteries last {WORSE_PERCENT} % less than predicted: it fits still.")
    if known.armed is False or (known.armed is None and not known.plan.armed):
        text = "The plan is not armed: in a real outage nothing would be stopped. `qxfleet shutdown arm` arms it."
        lines.append(coloured(text, "yellow"))
    return lines


def _count(number: int) -> str:
    return f"{number} load{' is' if number == 1 else 's are'}"


def _story_document(known: Known, story: Rehearsal, worse: Rehearsal) -> dict[str, Any]:
    return {
        "failing": list(story.failing),
        "armed": known.plan.armed if known.armed is None else known.armed,
        "fits": story.fits,
        "stopped": story.stopped,
        "lost": [{"load": name, "at_s": at_s} for name, at_s in story.lost.items()],
        "slack": story.slack and {"load": story.slack.load, "ups": story.slack.ups, "left_s": round(story.slack.left_s, 1)},
        "worse": {"battery_percent": 100 - WORSE_PERCENT, "fits": worse.fits, "lost": sorted(worse.lost)},
        "batteries": {
            ups: {"runtime_s": known.batteries[ups].runtime_s, "runtime_low_s": known.batteries[ups].runtime_low_s}
            for ups in story.failing
        },
        "timeline": [
            {"at_s": moment.at_s, "kind": moment.kind, "targets": list(moment.targets), "text": moment.text,
             "gain_s": None if moment.gain_s is None else round(moment.gain_s, 1)}
            for moment in story.moments
        ],
        "loads": {
            name: [{"from_s": begin_s, "to_s": end_s, "state": state} for begin_s, end_s, state in spans]
            for name, spans in story.spans.items()
        },
    }  # fmt: skip
