"""``run``: the agent as a service, in the foreground."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class LogLevel(Enum):
    """What is logged at least."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(
    context: typer.Context,
    log_level: Annotated[LogLevel, typer.Option("--log-level", help="Log at least this.")] = LogLevel.INFO,
) -> None:
    """Run the agent in the foreground; it logs to stderr.

    SIGTERM and Ctrl-C end it, SIGHUP reads the configuration again. Under systemd use Type=notify.
    """
    import asyncio
    import logging

    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import load
    from qxfleet.interfaces.logs import set_up
    from qxfleet.interfaces.parts import PARTS
    from qxfleet.interfaces.service import Service
    from qxfleet.model.events import Event, Severity

    config = load(context.obj)
    set_up(log_level.value.upper())
    for warning in config.warnings:
        logging.getLogger("qxfleet").warning("%s", warning)

    levels = {Severity.WARNING: logging.WARNING, Severity.CRITICAL: logging.ERROR}
    log = logging.getLogger("qxfleet.events")

    def tell(event: Event) -> None:
        level = levels.get(event.severity, logging.INFO)
        log.log(level, "%s: %s %s: %s", event.ups or "agent", event.name, event.value, event.text)

    async def serve() -> None:
        agent = Agent(config, parts=PARTS)
        agent.bus.attach(Event, tell)
        await Service(agent, context.obj).run()

    asyncio.run(serve())
