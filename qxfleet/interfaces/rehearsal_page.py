"""What came of a rehearsal, as one HTML page that needs nothing besides itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qxfleet.errors import ConfigError
from qxfleet.model.loads import Plan
from qxfleet.shutdown.triggers import spell_s

if TYPE_CHECKING:
    from qxfleet.testing.rehearsal import Outcome, Span

MARK = "<!-- written by qxfleet rehearse -->"

COLOURS = {
    "up": "#8fbf8f", "stopping": "#e0a800", "down": "#c3cad3", "starting": "#7fb2dd", "crashed": "#d64545",
    "mains": "#8fbf8f", "battery": "#e0a800", "off": "#c3cad3",
}  # fmt: skip
WORDS = {"crashed": "lost its power", "mains": "on mains", "battery": "on battery"}
"""States that are said otherwise."""

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #f5f7f9; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 0 0 .6rem; }
.verdict { font-size: 1.15rem; font-weight: 600; padding: .7rem 1rem; border-radius: 6px; margin: 1rem 0; }
.good { background: #e1f2e1; color: #1d5c2e; } .bad { background: #fbe3e3; color: #8c1d1d; }
.odd { background: #fdf1d3; color: #6b4e00; }
section { background: #fff; border: 1px solid #dde2e8; border-radius: 6px; padding: 1rem; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; color: #52606d; }
td, th { padding: .25rem .8rem .25rem 0; vertical-align: top; border-bottom: 1px solid #eef1f4; }
tr:last-child td { border-bottom: 0; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; } .soft { color: #616e7c; }
.badge { display: inline-block; border-radius: 4px; padding: 0 .45rem; font-size: .85rem; font-weight: 600; }
.scroll { overflow-x: auto; } svg { width: 100%; height: auto; display: block; }
section > p { margin: .3rem 0; } .key span { display: inline-block; margin: 0 .5rem; }
.key i { display: inline-block; width: .8rem; height: .8rem;
 border-radius: 2px; margin-right: .35rem; vertical-align: -1px; }
svg text { font: 12px system-ui, sans-serif; fill: #1f2933; } svg .axis { fill: #616e7c; }
"""

LEFT, WIDTH, ROW = 150, 1040, 22
"""Of the picture, in its own units: names, the whole, one row."""


def check(path: Path) -> None:
    """Raises ConfigError where a page must not or can't be written: over a file that is none of ours, or in no folder."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError([f"--page {path}: expected a name that ends in .html"])
    if not path.parent.is_dir():
        raise ConfigError([f"--page {path}: there is no folder {path.parent}"])
    if path.exists() and MARK not in path.read_text(errors="replace")[:2000]:
        raise ConfigError([f"--page {path}: a file of that name is there, and no rehearsal wrote it: take another name"])


def page(plan: Plan, outcome: Outcome, document: Mapping[str, Any]) -> str:
    """The page. ``document`` is what ``--json`` prints of the same rehearsal."""
    tone = "odd" if outcome.broken_off else "good" if outcome.holds else "bad"
    back = "" if outcome.back_s is None else f", and came back after {spell_s(outcome.back_s)}"
    hold = document["batteries_percent"]
    weak = "" if hold == 100 else f" Batteries held {hold} % of what they promise."
    parts = [
        "<h1>Rehearsal of the staged shutdown</h1>\n<p class=soft>Simulated UPSes and hosts; nothing real was touched. Mains of "
        f"{escape(', '.join(outcome.failing))} failed{back}.{weak}</p>",
        f'<p class="verdict {tone}">{escape(document["headline"])}</p>',
        "" if document["armed"] else '<p class="verdict odd">The plan is not armed: in a real outage nothing would be stopped. '
        "<code>qxfleet shutdown arm</code> arms it.</p>",
        _section("Findings", _findings(document["findings"])),
        _section("How it ended", "".join(f"<p>{escape(text)}</p>" for text in outcome.ended) or "<p>No run began.</p>"),
        _section("Left standing", _standing(outcome)),
        _section("Loads and UPSes over time", _picture(plan, outcome)),
        _section("Each load", _loads(plan, outcome, document["steps"])),
        _section("Step by step", _steps(document["steps"])),
        _section("Everything that was told", _timeline(document["timeline"])),
    ]  # fmt: skip
    return (
        f'<!doctype html>\n{MARK}\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Rehearsal: {escape(document['headline'])}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, parts)) + "\n</main></body></html>\n"
    )  # fmt: skip


def clock(seconds: float) -> str:
    """Time since mains failed: ``4:05``, ``1:04:05``."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Cells are HTML already."""
    def cell(tag: str, place: int, text: str) -> str:
        return f'<{tag}{" class=n" if place in numbers else ""}>{text}</{tag}>'

    head = "".join(cell("th", place, escape(text)) for place, text in enumerate(headings))
    body = "".join("<tr>" + "".join(cell("td", place, text) for place, text in enumerate(row)) + "</tr>\n" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _findings(findings: Sequence[Mapping[str, str]]) -> str:
    if not findings:
        return "<p>Nothing was found.</p>"
    tones = {"problem": "bad", "risk": "odd", "note": ""}
    return _table(("", "Of", "What"), [
        (f'<span class="badge {tones[each["severity"]]}">{each["severity"].upper()}</span>', escape(each["subject"]),
         escape(each["text"])) for each in findings
    ])  # fmt: skip


def _standing(outcome: Outcome) -> str:
    if not outcome.standing:
        return "<p>Everything is as it was before mains failed.</p>"
    return "".join(f"<p>{escape(text)}</p>" for text in outcome.standing.values())


def _loads(plan: Plan, outcome: Outcome, steps: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for load in plan.loads:
        spans = outcome.loads.get(load.name, [])
        off = next((span.from_s for span in spans if span.state in ("down", "crashed")), None)
        up = next((span.from_s for span in reversed(spans) if span.state == "up" and span.from_s > 0), None)
        mine = {act: [step for step in steps if step["target"] == load.name and step["act"] == act] for act in ("stop", "start")}
        stop, start = (mine[act][-1] if mine[act] else None for act in ("stop", "start"))
        rows.append((
            escape(load.name), _at(mine["stop"][0]["at_s"] if mine["stop"] else None), _at(off),
            escape(_result(stop)), _at(mine["start"][0]["at_s"] if mine["start"] else None), _at(up), escape(_result(start)),
        ))  # fmt: skip
    headings = ("Load", "Told to stop", "Really off", "Its stop", "Told to start", "Up again", "Its start")
    return _table(headings, rows, (1, 2, 4, 5))


def _at(seconds: float | None) -> str:
    return "" if seconds is None else clock(seconds)


def _result(step: Mapping[str, Any] | None) -> str:
    return "" if step is None else step["text"] if step["result"] else f"{step['answer'] or 'under way'}"


def _steps(steps: Sequence[Mapping[str, Any]]) -> str:
    if not steps:
        return "<p>None.</p>"
    return _table(("At", "Step", "Of", "Result", "Took", "Why, and what came of it"), [
        (clock(max(step["at_s"], 0)), step["act"], escape(step["target"]), step["result"] or step["answer"] or "open",
         "" if step["for_s"] is None else spell_s(step["for_s"]),
         f'{escape(step["why"])}<br><span class="soft">{escape(step["text"] or "")}</span>') for step in steps
    ], (0, 4))  # fmt: skip


def _timeline(said: Sequence[Mapping[str, Any]]) -> str:
    tones = {"critical": "bad", "warning": "odd"}
    return _table(("At", ""), [
        (clock(each["at_s"]), f'<span class="{tones.get(each["severity"], "")}">{escape(each["text"])}</span>') for each in said
    ], (0,))  # fmt: skip


def _picture(plan: Plan, outcome: Outcome) -> str:
    rows = [(name, outcome.loads.get(name, [])) for name in plan.named] + [
        (name, outcome.upses.get(name, [])) for name in plan.fed
    ]  # fmt: skip
    end_s = max(outcome.took_s, 60.0)
    height, per_s = ROW * (len(rows) + 1) + 34, (WIDTH - LEFT - 10) / end_s
    drawn = []
    for place, (name, spans) in enumerate(rows):
        y = place * ROW + (ROW if place >= len(plan.loads) else 0) + 4
        drawn.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name[:20])}</text>')
        drawn += [_bar(span, y, per_s) for span in spans]
    for at_s in _marks(end_s):
        x = LEFT + at_s * per_s
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 24}" stroke="#9aa5b1" stroke-dasharray="2 4" />')
        drawn.append(f'<text class="axis" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{clock(at_s)}</text>')
    if outcome.back_s is not None and outcome.back_s <= end_s:
        x = LEFT + outcome.back_s * per_s
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 24}" stroke="#1d5c2e" stroke-width="1.5" />')
        anchor = "end" if x > WIDTH - 120 else "start"
        shift = -5 if anchor == "end" else 5
        y = len(plan.loads) * ROW + 18
        drawn.append(f'<text x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}" style="fill:#1d5c2e">mains are back</text>')
    keys = [
        f"<p class='key soft'>{word}: " + "".join(
            f'<span><i style="background:{COLOURS[state]}"></i>{WORDS.get(state, state)}</span>'
            for state in COLOURS if any(span.state == state for spans in told.values() for span in spans)
        ) + "</p>" for word, told in (("Loads", outcome.loads), ("UPSes", outcome.upses))
    ]  # fmt: skip
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="What each load and UPS did over time">'
        f'{"".join(drawn)}</svg>\n'
        + "\n".join(keys)
    )


def _bar(span: Span, y: float, per_s: float) -> str:
    x, width = LEFT + span.from_s * per_s, max((span.to_s - span.from_s) * per_s, 0.5)
    title = f"{WORDS.get(span.state, span.state)} from {clock(span.from_s)} to {clock(span.to_s)}"
    place = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 6}"'
    return f'<rect {place} fill="{COLOURS[span.state]}"><title>{title}</title></rect>'


def _marks(end_s: float) -> list[float]:
    """Eight marks at most, at round times."""
    every_s = next((step for step in (30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400) if end_s / step <= 8), 28800)
    return [float(at_s) for at_s in range(0, int(end_s) + 1, every_s)]
