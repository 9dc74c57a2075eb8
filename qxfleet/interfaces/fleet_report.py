"""The fleet report: what to buy, what to test, what is wrong with the data, as one page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qxfleet.api.battery_shapes import day, figure, span
from qxfleet.battery.health import Health, Verdict
from qxfleet.errors import StoreError
from qxfleet.interfaces import battery_plots
from qxfleet.model.clock import from_us
from qxfleet.model.discharge import Discharge

TEMPLATES = Path(__file__).parent / "templates"

AHEAD_US = 365 * 86_400_000_000
"""What is likely due within a year is on the list to buy."""

LONGEST_OUTAGES = 15

TITLES = {
    "demand": "Strings due by quarter", "ages": "Capacity by age", "replacements": "When batteries are to be replaced",
    "outages": "Outages by month",
}  # fmt: skip

ORDER = (
    Verdict.REPLACE_NOW, Verdict.REPLACE_SOON, Verdict.TEST_DUE, Verdict.WATCH, Verdict.UNKNOWN, Verdict.GOOD,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Purchase:
    """So many strings of one kind to buy."""

    kind: str
    cells: str
    now: int
    soon: int
    year: int


def page(agent: str, found: Sequence[Health], discharges: Sequence[Discharge], now_us: int, since_us: int) -> str:
    """The report as HTML. ``discharges`` are those since ``since``, tests left out. StoreError where a library is missing."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise StoreError(f"the report needs {error.name}: pip install 'qxfleet[web,plot]'") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"day": day, "figure": figure, "span": span}
    buy = sorted((each for each in found if _due(each, now_us)), key=lambda each: (ORDER.index(each.verdict), each.by_us or 0))
    test = [each for each in found if each not in buy and each.verdict in (Verdict.TEST_DUE, Verdict.UNKNOWN)]
    longest = sorted(discharges, key=lambda each: each.lasted_s or 0.0, reverse=True)[:LONGEST_OUTAGES]
    return environment.get_template("report.html").render(
        agent=agent,
        made=f"{from_us(now_us):%Y-%m-%d %H:%M} UTC",
        since=day(since_us),
        counts=[
            (verdict.value, battery_plots.COLOURS[verdict], sum(each.verdict is verdict for each in found)) for verdict in ORDER
        ],
        total=len(found),
        purchases=purchases(buy, now_us),
        buy=buy,
        test=sorted(test, key=lambda each: (ORDER.index(each.verdict), each.by_us or 0)),
        wrong=[each for each in found if each.data],
        all=sorted(found, key=lambda each: each.evidence.ups),
        outages=longest,
        outage_count=len(discharges),
        outage_seconds=sum(each.lasted_s or 0.0 for each in discharges),
        colours={verdict.value: colour for verdict, colour in battery_plots.COLOURS.items()},
        charts=_charts(found, discharges, now_us),
    )


def _due(each: Health, now_us: int) -> bool:
    """Whether a battery is to be bought for: it is worn out, or likely to be within a year by its own measurements."""
    if each.verdict in (Verdict.REPLACE_NOW, Verdict.REPLACE_SOON):
        return True
    return each.by_us is not None and each.by_us <= now_us + AHEAD_US and each.confidence in ("A", "B")


def purchases(buy: Sequence[Health], now_us: int) -> list[Purchase]:
    """Strings to buy by kind: at once, within half a year, within the year."""
    counted: dict[tuple[str, str], Counter[str]] = {}
    for each in buy:
        facts = each.evidence.facts
        ah = f" {facts.capacity_ah:g} Ah" if facts.capacity_ah else ""
        key = (f"{facts.type or 'type not known'}{ah}", str(each.evidence.cells or "?"))
        soon = each.verdict is Verdict.REPLACE_SOON or (each.by_us or now_us) <= now_us + AHEAD_US // 2
        when = "now" if each.verdict is Verdict.REPLACE_NOW else "soon" if soon else "year"
        counted.setdefault(key, Counter())[when] += 1
    return [
        Purchase(kind, cells, count["now"], count["soon"], count["year"])
        for (kind, cells), count in sorted(counted.items(), key=lambda item: -sum(item[1].values()))
    ]


def _charts(found: Sequence[Health], discharges: Sequence[Discharge], now_us: int) -> dict[str, Any]:
    from markupsafe import Markup

    drawn = {
        "demand": battery_plots.demand(found, now_us),
        "ages": battery_plots.ages(found, now_us),
        "replacements": battery_plots.replacements(found, now_us),
        "outages": battery_plots.outages_by_month(discharges, now_us),
    }
    return {name: Markup(battery_plots.svg(picture, TITLES[name])) for name, picture in drawn.items()}
