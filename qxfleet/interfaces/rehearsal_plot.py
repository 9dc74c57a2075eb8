"""A rehearsal as a picture: what each load does over time, and what is left in the batteries. matplotlib is loaded only here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qxfleet.errors import StoreError
from qxfleet.model.loads import Plan
from qxfleet.shutdown.rehearse import DOWN, LOST, RUNNING, STARTING, STOPPING, Rehearsal

COLOURS = {RUNNING: "#8fbf8f", STOPPING: "#e0a800", DOWN: "#d5dae0", STARTING: "#7fb2dd", LOST: "#d64545"}
INK, SOFT = "#1f2933", "#7b8794"
LINES = ("#1b6ca8", "#b3541e", "#5b8c3e", "#7b5ea7", "#a83232", "#2a9d8f", "#8a6d3b", "#555555")

MOST_ROWS = 60
"""Loads drawn; of more, those that did something."""


def draw(plan: Plan, story: Rehearsal, path: Path) -> None:
    """Write the picture, PNG or SVG by the name's ending. StoreError without matplotlib, or if it can't be written."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise StoreError(f"pictures need {error.name}: pip install 'qxfleet[plot]'") from error
    rows = _rows(plan, story)
    height = 2.6 + 0.28 * max(len(rows), 4)
    figure = Figure(figsize=(11, height + 2.2), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[height, 2.6])
    _loads(above, rows, story)
    _batteries(below, story)
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise StoreError(f"{path} could not be written: {error.strerror or error}") from error


def _rows(plan: Plan, story: Rehearsal) -> list[str]:
    """Loads in the order in which they go."""
    moved = {name: spans[0][1] for name, spans in story.spans.items() if len(spans) > 1}
    names = [name for name in plan.named if name in moved or len(plan.loads) <= MOST_ROWS]
    return sorted(names, key=lambda name: (moved.get(name, float("inf")), name))[:MOST_ROWS]


def _loads(axes: Any, rows: list[str], story: Rehearsal) -> None:
    for place, name in enumerate(rows):
        for begin_s, end_s, state in story.spans.get(name, ()):
            axes.barh(place, (end_s - begin_s) / 60, left=begin_s / 60, height=0.72, color=COLOURS[state], linewidth=0)
        if name in story.lost:
            axes.plot(story.lost[name] / 60, place, "x", color="#7a1f1f", markersize=8, markeredgewidth=2)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    end_s = max(story.ended_s, 60.0)
    axes.set_xlim(0, end_s / 60 * 1.02)
    word = "nothing loses power while it runs" if story.fits else f"{len(story.lost)} would lose power while running"
    axes.set_title(f"If mains of {_some(story.failing)} fail: {word}", loc="left", fontsize=12,
                   color=INK if story.fits else COLOURS[LOST], pad=26)  # fmt: skip
    import matplotlib.patches

    shown = [state for state in COLOURS if any(state == each[2] for spans in story.spans.values() for each in spans)]
    axes.legend(
        handles=[matplotlib.patches.Patch(color=COLOURS[state], label=state) for state in shown],
        loc="lower right", bbox_to_anchor=(1, 1), ncols=len(shown), frameon=False, fontsize=9, labelcolor=INK,
    )  # fmt: skip
    _dress(axes)
    axes.tick_params(labelbottom=False)


def _batteries(axes: Any, story: Rehearsal) -> None:
    for number, (ups, points) in enumerate(story.charges.items()):
        colour = LINES[number % len(LINES)]
        label = ups if number < len(LINES) else None
        style = "-" if number % 2 == 0 else (0, (4, 3))
        minutes, charges = [at_s / 60 for at_s, _ in points], [charge for _, charge in points]
        axes.plot(minutes, charges, color=colour, label=label, linewidth=1.8, linestyle=style)
        for moment in story.moments:
            if ups in moment.targets and moment.kind in ("off", "dead"):
                charge = next((charge for at_s, charge in points if at_s >= moment.at_s), 0.0)
                axes.plot(moment.at_s / 60, charge, "s" if moment.kind == "off" else "x", color=colour, markersize=7)
    for moment in story.moments:
        if moment.kind in ("mains-off", "mains-on"):
            axes.axvline(moment.at_s / 60, color=SOFT, linewidth=1, linestyle=":")
            if moment.kind == "mains-on":
                axes.text(moment.at_s / 60, 102, " mains back", color=SOFT, fontsize=9, va="bottom")
    axes.set_ylim(0, 100)
    axes.set_ylabel("battery, %", color=INK)
    axes.set_xlabel("minutes since mains failed   (■ told to cut, × empty)", color=INK)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.28), ncols=8, frameon=False, fontsize=9, labelcolor=INK)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    _dress(axes)


def _dress(axes: Any) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#9aa5b1")
    axes.tick_params(colors=SOFT, labelcolor=INK, length=3, labelbottom=True)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
