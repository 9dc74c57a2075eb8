"""``demo``: a simulated fleet and a real agent on it, live, until Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qxfleet.interfaces.cli.output import complain

if TYPE_CHECKING:
    import asyncio

    from qxfleet.agent.agent import Agent
    from qxfleet.testing.farm import Farm

ONLINE_WITHIN_S = 60.0
"""Detection asks a device that does not answer some questions for up to 20 s."""

CONFIGURATION = """\
# Written by `qxfleet demo`; gone when it ends.
[agent]
name = "demo"
state = "state.db"
control = "agent.sock"
include = ["ups/fleet.toml"]

[nut]
listen = ["127.0.0.1:{nut}"]
"""

WEB = """
# Nobody is configured to log in: everybody on this machine may read, nobody may act.
[http]
listen = ["127.0.0.1:{http}"]

[metrics]
listen = ["127.0.0.1:{metrics}"]
"""
WEB_PACKAGES = ("fastapi", "jinja2", "prometheus_client", "uvicorn")
"""Of the extra ``web``; without it the demo does without page and metrics."""


def demo(
    ups: Annotated[int, typer.Option("--ups", min=1, max=500, help="How many UPSes.")] = 24,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.0, help="End by itself after so long live.")] = None,
) -> None:
    """Show a simulated fleet on pseudo-terminals and a real agent, live, until Ctrl-C.

    Everything it makes lies in one folder of its own and is removed at the end.
    """
    import asyncio

    with tempfile.TemporaryDirectory(prefix="qxfleet-demo-", dir=os.environ.get("XDG_RUNTIME_DIR")) as folder:
        asyncio.run(_demo(Path(folder), ups, seconds))


async def _demo(folder: Path, count: int, seconds: float | None) -> None:
    import asyncio

    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import load
    from qxfleet.config.schema_faces import HTTP_PORT, METRICS_PORT, NUT_PORT
    from qxfleet.interfaces.parts import PARTS
    from qxfleet.interfaces.service import Service
    from qxfleet.testing.control import Control
    from qxfleet.testing.farm import Farm
    from qxfleet.testing.population import fleet

    began_s = time.monotonic()
    config_file = folder / "qxfleet.toml"
    web = WEB if all(find_spec(package) for package in WEB_PACKAGES) else ""
    ports = {"nut": _port(NUT_PORT), "http": _port(HTTP_PORT), "metrics": _port(METRICS_PORT)}
    config_file.write_text((CONFIGURATION + web).format(**ports))
    farm = Farm(folder / "ups", fleet(count))
    async with farm, Control(farm):
        agent = Agent(load(config_file), parts=PARTS)
        service = Service(agent, config_file)
        ready = asyncio.Event()

        def started() -> None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.stop)  # the terminal was closed
            ready.set()

        running = asyncio.create_task(service.run(started))
        show = asyncio.create_task(_show(agent, farm, ready, config_file, began_s, seconds))
        try:
            await asyncio.wait({running, show}, return_when=asyncio.FIRST_COMPLETED)
            if show.done():
                show.result()
        finally:
            show.cancel()
            service.stop()
            await running
    complain("stopped; everything the demo made is gone")


async def _show(
    agent: Agent, farm: Farm, ready: asyncio.Event, config: Path, began_s: float, seconds: float | None
) -> None:
    import asyncio

    from qxfleet.api import shapes
    from qxfleet.interfaces.cli.events import event_line
    from qxfleet.interfaces.cli.fleet import print_status
    from qxfleet.interfaces.supervisor import Interfaces
    from qxfleet.model.events import Event

    complain(f"starting {len(farm.upses)} simulated UPSes and an agent in {config.parent}")
    await ready.wait()
    late = await _all_online(agent, began_s)
    interfaces = agent.part(Interfaces)
    if interfaces is not None:
        await asyncio.wait({asyncio.ensure_future(interfaces.up.wait())}, timeout=ONLINE_WITHIN_S)
    states, now_s = agent.fleet.snapshot(), agent.clock.monotonic()
    upses = [shapes.ups_document(agent.fleet.options(name), state, now_s) for name, state in states.items()]
    print_status(shapes.fleet_document("demo", agent.clock.wall_us(), upses))
    if late:
        complain(f"not online after {ONLINE_WITHIN_S:.0f} s: {', '.join(late)}")
        raise typer.Exit(1)
    dialects = sorted({ups["dialect"] for ups in upses})
    typer.echo(f"\n{len(upses)} UPSes of {len(dialects)} dialects online after {time.monotonic() - began_s:.1f} s: "
               f"{', '.join(dialects)}")  # fmt: skip
    me = _myself()
    typer.echo(_web_addresses(agent) + f"""
In another terminal:
  {me} --config {config} status
  {me} --config {config} events --follow
  {me} --config {config} vars ups-01
  {me} --config {config} top
  upsc ups-01@{agent.config.faces.nut.listen[0] if agent.config.faces.nut else ""}
An outage on feed A, and its end:
  {me} simulate --dir {farm.directory} --tell "mains off group:feed-a"
  {me} simulate --dir {farm.directory} --tell "mains on group:feed-a"
Events as they happen; Ctrl-C ends the demo:""")
    sys.stdout.flush()
    subscription = agent.bus.subscribe(Event, limit=1000)
    try:
        async with asyncio.timeout(seconds):
            async for event in subscription:
                typer.echo(event_line(shapes.event_item(event)))
                sys.stdout.flush()
    except TimeoutError:
        return


def _web_addresses(agent: Agent) -> str:
    """Where page, API and metrics are; what to install where they are not."""
    web, metrics = agent.config.faces.http, agent.config.faces.metrics
    if web is None or metrics is None:
        return "\nNo web page and no metrics: pip install 'qxfleet[web]' brings them.\n"
    page, scrape = f"http://{web.listen[0]}/", f"http://{metrics.listen[0]}/"
    return f"""
Web page:    {page}
JSON API:    {page}api/v1/fleet, described by {page}api/v1/openapi.json
Prometheus:  {page}metrics (the fleet), {scrape}ups_metrics?ups=ups-01 (one UPS, as nut_exporter)
"""


def _port(usual: int) -> int:
    """The usual port of a face on loopback, or any that is free if another program has it."""
    for port in (usual, 0):
        with socket.socket() as knock:
            knock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                knock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(knock.getsockname()[1])
    return usual


async def _all_online(agent: Agent, began_s: float) -> list[str]:
    """Wait until every UPS is online and gave a reading; the names of those that did not in time."""
    import asyncio

    from qxfleet.model.events import Link

    while True:
        states = agent.fleet.snapshot()
        late = [name for name, state in states.items() if state.link is not Link.ONLINE or state.reading is None]
        if not late or time.monotonic() - began_s > ONLINE_WITHIN_S:
            return late
        await asyncio.sleep(0.1)


def _myself() -> str:
    """How this command is called from here."""
    called = Path(sys.argv[0])
    if called.name != "qxfleet":
        return f"{sys.executable} -m qxfleet"
    found = shutil.which("qxfleet")
    if found and Path(found).resolve() == called.resolve():
        return "qxfleet"
    whole = called.absolute()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)
