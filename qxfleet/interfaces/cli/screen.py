"""The screen of ``top``: a table of the fleet above, the latest events below."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Footer, RichLog, Static

from qxfleet.api import requests, responses
from qxfleet.errors import AgentUnreachable, QxfleetError
from qxfleet.interfaces.cli.client import line_of, taken
from qxfleet.interfaces.cli.fleet import COLUMNS, status_row
from qxfleet.interfaces.cli.output import printable

HEADINGS = ("name", "state", "status", *(heading for heading, _ in COLUMNS), "runtime", "age", "groups")
R = TypeVar("R")
LONGEST_LINE = 16 * 1024 * 1024
"""The status of a few thousand UPSes is one line."""

SEVERITY_STYLES = ("", "cyan", "yellow", "bold red")


class Screen(App[None]):
    """Draws what the agent's two streams tell; ``failure`` is why it ended, if not by the user."""

    CSS = """
    #head { height: 1; padding: 0 1; background: $primary; color: $text; }
    DataTable { height: 2fr; }
    #events { height: 1fr; min-height: 4; border-top: solid $primary; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("q", "quit", "quit")]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, path: Path, targets: Sequence[str]) -> None:
        super().__init__()
        self._path = path
        self._targets = tuple(targets)
        self.failure: QxfleetError | None = None

    def compose(self) -> ComposeResult:
        """The widgets from top to bottom."""
        yield Static("", id="head")
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield RichLog(id="events", max_lines=500, wrap=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin both streams."""
        table = self.query_one(DataTable)
        for heading in HEADINGS:
            table.add_column(heading, key=heading)
        self._watch_fleet()
        self._follow_events()

    @work
    async def _watch_fleet(self) -> None:
        await self._pump(requests.Watch(targets=self._targets, every_s=1.0), self.show_fleet)

    @work
    async def _follow_events(self) -> None:
        await self._pump(requests.Follow(targets=self._targets), self.show_event)

    async def _pump(self, request: requests.Request[R], show: Callable[[R], None]) -> None:
        """Hand every item of a stream to ``show``; the end of the stream is the end of the screen."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._path, limit=LONGEST_LINE)
            try:
                writer.write(line_of(request))
                while True:
                    show(taken((await reader.readline()).decode(), self._path)["item"])
            finally:
                writer.close()
        except QxfleetError as error:
            self._give_up(error)
        except OSError as error:
            self._give_up(AgentUnreachable(f"the agent on {self._path} went away ({error})"))

    def _give_up(self, error: QxfleetError) -> None:
        self.failure = self.failure or error
        self.exit()

    def show_fleet(self, document: responses.FleetStatus) -> None:
        """Bring the table up to date; the cursor stays where it is."""
        table = self.query_one(DataTable)
        upses = document["ups"]
        names = [ups["name"] for ups in upses]
        if names != [str(key.value) for key in table.rows]:
            table.clear()
            for name in names:
                table.add_row(*("" for _ in HEADINGS), key=name)
        for ups in upses:
            cells = [*status_row(ups), (" ".join(ups["groups"]), "dim")]
            for heading, (text, style) in zip(HEADINGS, cells, strict=True):
                left = heading in ("name", "state", "status", "groups")
                cell = Text(printable(text), style or "", justify="left" if left else "right")
                table.update_cell(ups["name"], heading, cell, update_width=True)
        online = sum(ups["state"] == "online" for ups in upses)
        on_battery = sum("OB" in ups["status"].split() for ups in upses)
        self.query_one("#head", Static).update(
            f"{document['agent']}   {online} of {len(upses)} online, {on_battery} on battery   {document['time'][:19]}Z"
        )

    def show_event(self, item: responses.FollowItem) -> None:
        """Add one event below the others."""
        if "event" not in item:
            return
        event = item["event"]
        line = f"{event['time'][11:19]}  {event['ups'] or '-':<14} {event['name']:<22} {event['value']:<12} {event['text']}"
        self.query_one("#events", RichLog).write(Text(printable(line), SEVERITY_STYLES[item["severity"]]), expand=True)
