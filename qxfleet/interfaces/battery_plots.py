"""Batteries as pictures: one in detail, a fleet's replacements, ages, outages. matplotlib is loaded only when one is drawn."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qxfleet.battery.health import Health, Verdict
from qxfleet.battery.posterior import WORN, Z
from qxfleet.errors import StoreError
from qxfleet.model.clock import from_us
from qxfleet.model.discharge import Cause, Discharge, Method, Sample
from qxfleet.model.status import Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, GRID, LINE = "#1f2933", "#7b8794", "#e4e7eb", "#1b6ca8"
COLOURS = {
    Verdict.GOOD: "#2f9e6e", Verdict.WATCH: "#1b6ca8", Verdict.TEST_DUE: "#e0a800", Verdict.REPLACE_SOON: "#e8710a",
    Verdict.REPLACE_NOW: "#d64545", Verdict.UNKNOWN: "#9aa5b1",
}  # fmt: skip
CAUSES = {Cause.MAINS: ("#d64545", "mains gone"), Cause.UNKNOWN: ("#7b5ea7", "cause not known")}

MOST_ROWS = 45
"""Rows of a timeline: more are not read."""

MOST_CURVES = 6
YEAR_US = 365.25 * 86400e6
WORKING = int(Status.OB | Status.CAL)


def telling_runs(discharges: Sequence[Discharge]) -> list[Discharge]:
    """The discharges whose curves tell most, the first and the newest among them: those that measured a capacity."""
    runs = [each for each in discharges if each.score.capacity_percent is not None and each.score.method is Method.FULL]
    if len(runs) < 2:
        runs = [each for each in discharges if (each.lasted_s or 0) >= 120]
    if len(runs) <= MOST_CURVES:
        return runs
    step = (len(runs) - 1) / (MOST_CURVES - 1)
    return [runs[round(number * step)] for number in range(MOST_CURVES)]


def one_battery(health: Health, curves: Sequence[tuple[Discharge, Sequence[Sample]]], now_us: int) -> Figure:
    """Capacity with its trend and the dates, beside the curves of its runs from old to new."""
    figure = _figure(12.5, 5.2)
    capacity, runs = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _capacity(capacity, health, now_us)
    _curves(runs, curves)
    known = health.evidence
    figure.suptitle(f"{known.ups}   {health.verdict.value}", x=0.012, ha="left", fontsize=14, color=COLOURS[health.verdict],
                    fontweight="bold")  # fmt: skip
    return figure


def _capacity(axes: Any, health: Health, now_us: int) -> None:
    _plain(axes, "Capacity against new", "%")
    used = health.used
    shown = [at_us for at_us in (health.low_us, health.high_us, health.evidence.facts.installed_us, now_us) if at_us]
    shown += [each.at_us for each in used]
    first, last = min(shown), max(shown)
    pad = (last - first) * 0.04 + 86400e6 * 10
    axes.set_xlim(from_us(round(first - pad)), from_us(round(last + pad)))
    axes.set_ylim(min([60.0, *(each.percent - Z * each.error for each in used)]) - 3, 112)
    axes.axhline(WORN, color=COLOURS[Verdict.REPLACE_NOW], linewidth=1, linestyle=(0, (6, 3)))
    axes.annotate(f"{WORN:.0f} %: replace the string", (0.01, WORN), xycoords=("axes fraction", "data"), xytext=(0, 4),
                  textcoords="offset points", fontsize=8.5, color=COLOURS[Verdict.REPLACE_NOW])  # fmt: skip
    if health.low_us and health.high_us and health.by_us:
        label = "replace by: likely, and bounds" + (" (by age)" if health.basis == "age" else "")
        colour = COLOURS[Verdict.REPLACE_SOON]
        axes.axvspan(from_us(health.low_us), from_us(health.high_us), color=colour, alpha=0.13, linewidth=0)
        axes.axvline(from_us(health.by_us), color=colour, linewidth=1.8, label=label)
    axes.axvline(from_us(now_us), color=SOFT, linewidth=1, linestyle=":", label="today")
    if health.belief is not None and used:
        low, middle, high = health.belief.percent_low, health.belief.percent, health.belief.percent_high
        axes.errorbar([from_us(now_us)], [middle], [[middle - low], [high - middle]], fmt="s", color=LINE, elinewidth=1.6,
                      capsize=3, markersize=6, label="today, by all evidence, 90 %")  # fmt: skip
    for method, mark, word in ((Method.FULL, "o", "run to low battery"), (Method.CURVE, "D", "stretch of a partial run")):
        points = [each for each in used if each.method is method]
        if points:
            axes.errorbar([from_us(each.at_us) for each in points], [each.percent for each in points],
                          [Z * each.error for each in points], fmt=mark, color=INK, ecolor="#9aa5b1", elinewidth=1.1, capsize=2.5,
                          markersize=5, label=f"{word}, 90 %")  # fmt: skip
    if not used:
        axes.text(0.5, 0.6, "capacity: insufficient", transform=axes.transAxes, ha="center", fontsize=12, color=SOFT)
    _dates(axes)
    _legend(axes, 2, within=True)


def _curves(axes: Any, curves: Sequence[tuple[Discharge, Sequence[Sample]]]) -> None:
    _plain(axes, "Voltage on battery, old to new", "V")
    axes.set_xlabel("minutes", color=SOFT, fontsize=9)
    for number, (each, points) in enumerate(curves):
        share = number / max(1, len(curves) - 1)
        working = [point for point in points if point.status & WORKING and point.battery_v is not None]
        minutes = [(point.at_us - each.began_us) / 60e6 for point in working]
        colour = _blend("#9ecae1", "#08306b", share)
        load = f", {each.load_percent:.0f} %" if each.load_percent is not None else ""
        label = f"{from_us(each.began_us):%b %Y}{load}"
        axes.plot(minutes, [point.battery_v for point in working], color=colour, linewidth=1.3, label=label)
    if not curves:
        axes.text(0.5, 0.6, "no run of two minutes yet", transform=axes.transAxes, ha="center", fontsize=12, color=SOFT)
        axes.set_yticks([])
    else:
        _legend(axes, 3, within=True)


def replacements(found: Sequence[Health], now_us: int) -> Figure:
    """When each battery is to be replaced, the most urgent on top: likely date and bounds."""
    dated = sorted((each for each in found if each.by_us), key=lambda each: (each.by_us or 0, each.evidence.ups))
    rows = dated[:MOST_ROWS]
    figure = _figure(11, 1.7 + 0.21 * max(4, len(rows)))
    axes = figure.add_subplot()
    title = "Replace by" + (f": the {len(rows)} most urgent of {len(dated)}" if len(dated) > len(rows) else "")
    _plain(axes, title, "", grid="x")
    at: Any = from_us
    for row, each in enumerate(rows):
        assert each.by_us and each.low_us and each.high_us
        colour = COLOURS[each.verdict]
        axes.plot([at(each.low_us), at(each.high_us)], [row, row], color=colour, alpha=0.35, linewidth=5,
                  solid_capstyle="butt")  # fmt: skip
        axes.plot([at(each.by_us)], [row], "o", color=colour, markersize=5.5,
                  markerfacecolor=colour if each.basis == "trend" else "white")  # fmt: skip
    axes.set_yticks(range(len(rows)), [each.evidence.ups for each in rows], fontsize=8.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(at(now_us), color=SOFT, linewidth=1.1, linestyle=":")
    axes.annotate("today", (from_us(now_us), 0), xycoords=("data", "axes fraction"), xytext=(3, 4), textcoords="offset points",
                  fontsize=8.5, color=SOFT)  # fmt: skip
    _dates(axes)
    there = [verdict for verdict in reversed(Verdict) if any(each.verdict is verdict for each in rows)]
    for verdict in there:
        axes.plot([], [], "s", color=COLOURS[verdict], label=verdict.value)
    axes.plot([], [], "o", color=INK, label="likely date, by the trend")
    axes.plot([], [], "o", color=INK, markerfacecolor="white", label="by age")
    _legend(axes, 6)
    return figure


def demand(found: Sequence[Health], now_us: int, quarters: int = 8) -> Figure:
    """Strings to buy by quarter: those likely due, and those whose early bound falls there already."""
    figure = _figure(6.4, 3.4)
    axes = figure.add_subplot()
    _plain(axes, "Strings due by quarter", "")
    begin = from_us(now_us)
    labels = [_quarter(begin.year * 4 + (begin.month - 1) // 3 + number) for number in range(quarters)]
    likely = _by_quarter([each.by_us for each in found], now_us, quarters)
    early = _by_quarter([each.low_us for each in found], now_us, quarters)
    places = range(quarters)
    axes.bar([place - 0.2 for place in places], likely, 0.38, color=COLOURS[Verdict.REPLACE_SOON], label="likely")
    axes.bar([place + 0.2 for place in places], early, 0.38, color="#f3c99b", label="at the earliest")
    axes.set_xticks(places, labels, fontsize=8.5)
    _whole(axes)
    _legend(axes, 2)
    return figure


def _by_quarter(dates: Sequence[int | None], now_us: int, quarters: int) -> list[int]:
    """How many dates fall into each quarter from now on; what is overdue counts in the first."""
    now = from_us(now_us)
    first = now.year * 4 + (now.month - 1) // 3
    counts = Counter(max(first, from_us(at).year * 4 + (from_us(at).month - 1) // 3) for at in dates if at)
    return [counts.get(first + number, 0) for number in range(quarters)]


def _quarter(number: int) -> str:
    return f"Q{number % 4 + 1}\n{number // 4}"


def ages(found: Sequence[Health], now_us: int) -> Figure:
    """Capacity against age, a dot for each battery whose capacity is known."""
    figure = _figure(6.4, 3.4)
    axes = figure.add_subplot()
    _plain(axes, "Capacity by age", "%")
    axes.set_xlabel("years", color=SOFT, fontsize=9)
    for verdict in Verdict:
        dots = [
            ((now_us - since_us) / YEAR_US, each.percent)
            for each in found
            if each.verdict is verdict and each.percent is not None and (since_us := each.evidence.facts.installed_us)
        ]
        if dots:
            years, percents = zip(*dots, strict=True)
            axes.plot(years, percents, "o", color=COLOURS[verdict], markersize=5, alpha=0.85, label=verdict.value)
    axes.axhline(WORN, color=COLOURS[Verdict.REPLACE_NOW], linewidth=1, linestyle=(0, (6, 3)))
    axes.set_xlim(left=0)
    if axes.get_legend_handles_labels()[0]:
        _legend(axes, 4)
    else:
        axes.text(0.5, 0.5, "no capacity is known yet", transform=axes.transAxes, ha="center", color=SOFT)
    return figure


def outages_by_month(discharges: Sequence[Discharge], now_us: int, months: int = 24) -> Figure:
    """How many outages began in each month."""
    figure = _figure(13, 2.9)
    axes = figure.add_subplot()
    _plain(axes, "Outages by month", "")
    now = from_us(now_us)
    last = now.year * 12 + now.month - 1
    numbers = list(range(last - months + 1, last + 1))
    floor = [0] * months
    for cause, (colour, word) in CAUSES.items():
        counts = Counter(
            from_us(each.began_us).year * 12 + from_us(each.began_us).month - 1 for each in discharges if each.cause is cause
        )
        heights = [counts.get(number, 0) for number in numbers]
        if any(heights) or cause is Cause.MAINS:
            axes.bar(range(months), heights, 0.72, bottom=floor, color=colour, label=word)
            floor = [below + height for below, height in zip(floor, heights, strict=True)]
    axes.set_xticks(range(months), [_month(number, index) for index, number in enumerate(numbers)], fontsize=8.5)
    _whole(axes)
    _legend(axes, 2)
    return figure


def _month(number: int, index: int) -> str:
    name = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[number % 12]
    return f"{name}\n{number // 12}" if index == 0 or number % 12 == 0 else name


def save(figure: Figure, path: Path) -> None:
    """Write a picture, PNG or SVG by the name's ending. :class:`StoreError` if it can't be written."""
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise StoreError(f"{path} could not be written: {error.strerror or error}") from error


def svg(figure: Figure, label: str) -> str:
    """The picture as an element that can stand within a page, as wide as its place."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    mark = f"p{id(figure):x}"
    text = re.sub(r'(?<=id=")(?=[^"])', mark, text)
    text = re.sub(r"(?<=url\(#)", mark, text)
    text = re.sub(r'(?<=href="#)', mark, text)
    return re.sub(r' width="[^"]*pt" height="[^"]*pt"', f' role="img" aria-label="{label}"', text, count=1)


def _figure(width: float, height: float) -> Figure:
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise StoreError(f"pictures need {error.name}: pip install 'qxfleet[plot]'") from error
    matplotlib.rcParams["svg.hashsalt"] = "qxfleet"
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Any, title: str, unit: str, *, grid: str = "y") -> None:
    axes.set_title(title, loc="left", fontsize=11.5, color=INK, pad=9)
    axes.set_ylabel(unit, color=INK, rotation=0, labelpad=12)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#9aa5b1")
    axes.tick_params(colors=SOFT, labelcolor=INK, length=3, labelsize=9)


def _whole(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _dates(axes: Any) -> None:
    import matplotlib.dates

    dates: Any = matplotlib.dates
    locator = dates.AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, show_offset=False))


def _legend(axes: Any, columns: int, *, within: bool = False) -> None:
    """Below the whole picture, or below these axes alone."""
    looks = {"ncols": columns, "frameon": False, "fontsize": 8.5, "labelcolor": INK, "handletextpad": 0.5, "columnspacing": 1.4}
    if within:
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.13), borderaxespad=0, **looks)
    else:
        axes.figure.legend(loc="outside lower left", **looks)


def _blend(light: str, dark: str, share: float) -> str:
    parts = [(int(light[place : place + 2], 16), int(dark[place : place + 2], 16)) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in parts)
