"""A variable's history as a picture: mean and its band, gaps left open, discharges shaded. matplotlib is loaded only here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qxfleet.config.durations import duration_text
from qxfleet.errors import StoreError
from qxfleet.model.clock import from_us
from qxfleet.model.discharge import Cause, Discharge
from qxfleet.model.variables import VARIABLES

if TYPE_CHECKING:
    from qxfleet.store.series import Bucket, Series

INK, SOFT, LINE = "#1f2933", "#7b8794", "#1b6ca8"
SHADES = {Cause.MAINS: ("#d64545", "outage"), Cause.TEST: ("#e0a800", "battery test"), Cause.UNKNOWN: ("#7b5ea7", "discharge")}

NARROW = 1 / 250
"""A discharge narrower than this share of the picture is a thin line, so that it is seen at all."""


OFFSETS = ("UTC", "%Y UTC", "%b %Y UTC", "%d %b %Y UTC", "%d %b %Y UTC", "%d %b %Y %H:%M UTC")
"""What the axis says of the part of the date that all its marks share, from years down to seconds."""


def draw(found: Series, discharges: Sequence[Discharge], path: Path) -> None:
    """Write the picture, PNG or SVG by the name's ending. :class:`StoreError` without matplotlib, or if it can't be written."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise StoreError(f"pictures need {error.name}: pip install 'qxfleet[plot]'") from error
    figure = Figure(figsize=(11, 4.6), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _frame(axes, found)
    for index, piece in enumerate(_pieces(found)):
        _piece(axes, found, piece, label=index == 0)
    if not found.points:
        axes.text(0.5, 0.5, "nothing was recorded in this time", transform=axes.transAxes, ha="center", color=SOFT)
        axes.set_yticks([])
    _shade(axes, found, discharges)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="upper left", bbox_to_anchor=(0, -0.11), borderaxespad=0, ncols=5, frameon=False, fontsize=9, labelcolor=INK
        )
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise StoreError(f"{path} could not be written: {error.strerror or error}") from error


def _frame(axes: Any, found: Series) -> None:
    import matplotlib.dates

    dates: Any = matplotlib.dates
    variable = VARIABLES[found.variable]
    axes.set_xlim(from_us(found.since_us), from_us(found.until_us))
    width = f"by {duration_text(found.every_s)}" if found.every_s else "every reading"
    axes.set_title(f"{found.ups}   {variable.description or found.variable}", loc="left", fontsize=13, color=INK, pad=12)
    axes.set_title(f"{found.variable}, {width}", loc="right", fontsize=9, color=SOFT, pad=12)
    axes.set_ylabel(found.unit, color=INK, rotation=0, labelpad=14)
    locator = dates.AutoDateLocator(minticks=4, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, offset_formats=OFFSETS))
    axes.xaxis.get_offset_text().set(fontsize=9, color=SOFT)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#9aa5b1")
    axes.tick_params(colors=SOFT, labelcolor=INK, length=3)
    axes.margins(y=0.12)


def _pieces(found: Series) -> list[list[Bucket]]:
    """Points without a gap between them."""
    pieces: list[list[Bucket]] = [found.points[:1]] if found.points else []
    for before, point in pairwise(found.points):
        if point.at_us - before.at_us > found.gap_us:
            pieces.append([])
        pieces[-1].append(point)
    return pieces


def _piece(axes: Any, found: Series, piece: list[Bucket], *, label: bool) -> None:
    middle_us = found.every_s * 500_000
    times = [from_us(min(point.at_us + middle_us, found.until_us)) for point in piece]
    if found.every_s:
        axes.fill_between(
            times, [point.min for point in piece], [point.max for point in piece], color=LINE, alpha=0.18, linewidth=0,
            label="lowest to highest" if label else None,
        )  # fmt: skip
    alone = {"marker": "o", "markersize": 2.5} if len(piece) == 1 else {}
    name = ("mean" if found.every_s else "reading") if label else None
    axes.plot(times, [point.mean for point in piece], color=LINE, linewidth=1.3, solid_capstyle="round", label=name, **alone)


def _shade(axes: Any, found: Series, discharges: Sequence[Discharge]) -> None:
    named: set[Cause] = set()
    span_us = found.until_us - found.since_us
    for each in discharges:
        colour, word = SHADES[each.cause]
        label = None if each.cause in named else word
        named.add(each.cause)
        end_us = each.ended_us if each.ended_us is not None else found.until_us
        if end_us - each.began_us < span_us * NARROW:
            axes.axvline(from_us(each.began_us), color=colour, alpha=0.55, linewidth=1.1, label=label, zorder=0.5)
        else:
            axes.axvspan(from_us(each.began_us), from_us(end_us), color=colour, alpha=0.16, linewidth=0, label=label, zorder=0.5)
