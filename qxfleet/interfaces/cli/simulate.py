"""``qxfleet simulate``: simulated UPSes on pseudo-terminals, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qxfleet.errors import AgentUnreachable, LinkUnavailable
from qxfleet.interfaces.cli.output import print_table

if TYPE_CHECKING:
    from qxfleet.dialects.spec import Dialect
    from qxfleet.testing.farm import Farm

SHOWN = 24
"""UPSes listed at the start; more would push everything else off the screen."""


def simulate(
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="where to put one link per UPS")],
    ups: Annotated[int, typer.Option("--ups", min=1, max=2000, help="number of UPSes")] = 6,
    dialect: Annotated[str | None, typer.Option("--dialect", help="one dialect for all; default: the commonest in turn")] = None,
    baud: Annotated[
        int | None, typer.Option("--baud", min=50, max=921600, help="pace the lines like a real one of 2400 baud")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="another number, another fleet")] = 0,
    hosts: Annotated[bool, typer.Option("--hosts", help="with hosts that hang on them, to rehearse a staged shutdown")] = False,
    instruction: Annotated[
        str | None,
        typer.Option("--tell", metavar="INSTRUCTION", help="one instruction to the simulator that runs on DIR"),
    ] = None,
) -> None:
    """Simulated UPSes on pseudo-terminals, one link per UPS in DIR, until Ctrl-C."""
    from qxfleet.dialects.registry import dialect_named, names

    chosen = dialect_named(dialect) if dialect else None
    if dialect and chosen is None:
        raise typer.BadParameter(f"{dialect!r} is none of {', '.join(names())}", param_hint="--dialect")
    try:
        if instruction is not None:
            raise typer.Exit(_tell(directory, instruction))
        run_simulation(directory, ups, chosen, baud=baud, seed=seed, hosts=hosts)
    except AgentUnreachable as error:
        typer.echo(error, err=True)
        raise typer.Exit(3) from None
    except LinkUnavailable as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None


def run_simulation(
    directory: Path, ups: int, dialect: Dialect | None = None, *, baud: int | None = None, seed: int = 0, hosts: bool = False
) -> None:
    """Serve ``ups`` simulated UPSes in ``directory`` until SIGINT, SIGTERM, or the instruction ``quit``; ``hosts`` on them too.

    With ``baud`` every byte takes its time on the wire. Raises LinkUnavailable if the directory can't be used.
    """
    import asyncio

    from qxfleet.testing.farm import Farm
    from qxfleet.testing.population import fleet

    farm = Farm(directory, fleet(ups, dialect, seed=seed), baud=baud or 2400, pace="bytes" if baud else None)
    asyncio.run(_serve(farm, hosts=hosts))


async def _serve(farm: Farm, *, hosts: bool) -> None:
    import asyncio
    import contextlib
    import signal

    from qxfleet.testing.control import Control
    from qxfleet.testing.hosts import Hosts

    living = Hosts(farm) if hosts else None
    control = Control(farm, living)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, control.quit.set)
    async with control, farm, living or contextlib.nullcontext():
        _announce(farm, hosts=hosts)
        await control.quit.wait()


def _tell(directory: Path, instruction: str) -> int:
    from qxfleet.testing.control import tell

    lines = tell(directory, instruction)
    for line in lines:
        typer.echo(line)
    return 0 if lines[-1].startswith("ok") else 1


def _announce(farm: Farm, *, hosts: bool) -> None:
    """Where everything is, who is there, and how to play an outage; to stderr."""
    from qxfleet.testing.control import INSTRUCTIONS

    rows: list[list[tuple[str, str | None]]] = []
    everyone = list(farm.upses.values())
    for ups in everyone[:SHOWN]:
        ratings, battery = ups.machine.ratings, ups.machine.battery
        cells = (
            ups.name,
            ups.dialect.name,
            " ".join(ups.groups),
            f"{ratings.va:g} VA {'line-interactive' if ratings.line_interactive else 'online'}",
            f"{ratings.battery_v:g} V {battery.capacity_ah:g} Ah, {battery.age_years:g} years",
            f"{ups.machine.load_percent:g} %",
        )
        rows.append([(cell, None) for cell in cells])
    headings = ("NAME", "DIALECT", "GROUPS", "UNIT", "BATTERY", "LOAD")
    print_table([(heading, "right" if heading == "LOAD" else "left") for heading in headings], rows, stderr=True)
    if len(everyone) > SHOWN:
        typer.echo(f"… and {len(everyone) - SHOWN} more", err=True)
    tell_it = f"qxfleet simulate --dir {farm.directory} --tell"
    example = everyone[0].groups[0]
    for line in (
        "",
        f"links:          {farm.directory}/NAME",
        f"configuration:  include = [\"{farm.directory / ('*.toml' if hosts else 'fleet.toml')}\"] in [agent]",
        f"an outage:      {tell_it} \"mains off group:{example}\"",
        f"its end:        {tell_it} \"mains on group:{example}\"",
        "instructions:   " + "\n                ".join(f"{usage}: {meaning}" for usage, meaning in INSTRUCTIONS),
        "",
        "running; Ctrl-C ends it",
    ):
        typer.echo(line, err=True)
