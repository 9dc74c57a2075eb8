"""The parts of the documentation that are made from the code: ``python -m tests.generated_docs`` rewrites them.

Each stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` in one of the pages under ``docs``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from qxfleet.agent.assess import RULES, Rule
from qxfleet.config.reference import option_reference
from qxfleet.dialects.megatec import MEGATEC, RATING_QUERY, STATUS_REPLY, VENDOR_IC_REPLY, VENDOR_REPLY
from qxfleet.dialects.registry import DIALECTS, STATUS_PROBES, claim_questions
from qxfleet.dialects.spec import (
    AnswerStyle,
    Arg,
    Char,
    Claim,
    Dialect,
    Effect,
    Field,
    Form,
    Holds,
    Order,
    Query,
    Span,
    Style,
    Tier,
    Token,
    Topic,
)
from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.dialects.voltronic.complaints import WARNINGS_TABLE
from qxfleet.model.variables import VARIABLES
from qxfleet.model.wire import ACCEPTANCES, REFUSALS, shown
from qxfleet.session.orders import prepare
from qxfleet.testing.control import INSTRUCTIONS
from qxfleet.transports.usb_ids import DEVICES

DOCS = Path(__file__).parents[1] / "docs"

FAMILY = tuple(dialect for dialect in DIALECTS if dialect.source == MEGATEC.source)
"""The dialects that share megatec's replies and orders."""

BLOCK = re.compile(r"(?P<head><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    heads = list(headings)
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str | bytes) -> str:
    """Bytes or text as it stands in the code, with CR written ``\\r``."""
    plain = text.decode("latin-1") if isinstance(text, bytes) else text
    if any(not " " <= character <= "~" for character in plain.rstrip("\r")):
        plain = shown(plain.encode("latin-1")) + " and its CRC"
    return f"`{plain.replace(chr(13), chr(92) + 'r')}`" if plain else "–"


def _asked(dialect: Dialect, topic: Topic) -> str:
    return ", ".join(code(query.command) for query in dialect.queries if query.topic is topic) or "–"


def dialects() -> str:
    """The Megatec family side by side."""
    topics = (Topic.STATUS, Topic.RATING, Topic.VENDOR, Topic.PROTOCOL)
    rows = [
        (
            code(dialect.name), *(_asked(dialect, topic) for topic in topics),
            "`(ACK` or `(NAK`" if dialect.answer is AnswerStyle.WORD else "nothing, as a rule",
        )
        for dialect in sorted(FAMILY, key=lambda each: each.name)
    ]  # fmt: skip
    return table(("dialect", "status", "ratings", "maker and model", "protocol", "answer to an order"), rows)


def probes() -> str:
    """The questions of recognition, in order."""
    status = ", ".join(code(probe) for probe in STATUS_PROBES)
    others = ", ".join(code(probe) for probe in claim_questions())
    return table(("step", "questions"), [("status, until one is answered", status), ("then, as far as needed", others)])


def _condition(claim: Claim) -> str:
    ways: list[str] = []
    for wants in claim.any_of:
        parts = []
        for want in wants:
            if want.replies:
                parts.append(f"{code(want.request)} answered with {' or '.join(code(reply) for reply in want.replies)}")
            else:
                parts.append(f"{code(want.request)} {'answered' if want.answered else 'not answered'}")
        if parts:
            ways.append(" and ".join(parts))
    return ", or ".join(ways) or "nothing more"


def detection() -> str:
    """Who claims a UPS, in order."""
    rows = [
        (str(number), code(dialect.name), code(dialect.claim.status), _condition(dialect.claim))
        for number, dialect in enumerate(DIALECTS, 1)
    ]
    return table(("order", "dialect", "status query that is answered", "and"), rows)


def _meaning(field: Field) -> str:
    if field.choices:
        return f"0: {field.choices[0]}, 1: {field.choices[1]}"
    if field.name in VARIABLES:
        return VARIABLES[field.name].description
    return BITS[field.name]


BITS = {
    "bit.utility_fail": "1: on battery (`OB`), 0: on mains (`OL`)",
    "bit.battery_low": "1: battery low (`LB`)",
    "bit.regulating": "1: bypass, boost or trim, which the voltages of the same reply tell apart",
    "bit.failed": "1: the UPS reports a failure of its own (alarm `UPS selftest failed!`)",
    "bit.test": "1: a battery test runs (`CAL`)",
    "bit.shutdown": "1: a shutdown is counting down (`FSD`, alarm `Shutdown imminent!`)",
}
"""What the bits that are no variable by themselves mean."""


def status_words() -> str:
    """The words of the status reply."""
    rows = [
        (str(field.where.index + 1), code(field.name), VARIABLES[field.name].unit, VARIABLES[field.name].description)
        for field in STATUS_REPLY.fields
        if isinstance(field.where, Token)
    ]
    return table(("word", "variable", "unit", "meaning"), rows)


def status_bits() -> str:
    """The bits of the status reply."""
    rows = [
        (str(field.where.index + 1), code(field.name), _meaning(field))
        for field in STATUS_REPLY.fields
        if isinstance(field.where, Char)
    ]
    return table(("character", "name", "meaning"), rows)


def ratings() -> str:
    """The words of the ratings reply."""
    (reply,) = RATING_QUERY.replies
    rows = [
        (str(field.where.index + 1), code(field.name), VARIABLES[field.name].unit, VARIABLES[field.name].description)
        for field in reply.fields
        if isinstance(field.where, Token)
    ]
    return table(("word", "variable", "unit", "meaning"), rows)


def vendor() -> str:
    """The columns of both vendor layouts."""
    rows = []
    for layout, reply in (("standard", VENDOR_REPLY), ("Megatec IC", VENDOR_IC_REPLY)):
        for field in reply.fields:
            assert isinstance(field.where, Span)
            last = "end" if field.where.stop is None else str(field.where.stop - 1)
            rows.append((layout, f"{field.where.start}–{last}", code(field.name)))
    return table(("layout", "columns", "variable"), rows)


def _effect(effect: Effect) -> str:
    if effect.low is not None:
        return f"`{effect.name}` comes to {effect.low:g}–{effect.high:g} V"
    if effect.becomes is None:
        return f"`{effect.name}` changes"
    return f"`{effect.name}` becomes {int(effect.becomes)}"


_ARGS = {
    Style.TENTHS_OR_MINUTES: "n", Style.MINUTES_2: "nn", Style.MINUTES_4: "mmmm", Style.TENTHS: ".d",
}  # fmt: skip


def _spelling(form: Form) -> str:
    text = "".join(f"<{_ARGS[part.style]}>" if isinstance(part, Arg) else part.decode() for part in form.parts)
    return code(text) + (" (on some units)" if form.needs else "")


def _order_row(order: Order) -> tuple[str, ...]:
    value = "–" if order.value is None else f"{order.value[0]:g}–{order.value[1]:g} s, default {order.value[2]:g}"
    hazard = {"none": "", "battery": "drains the battery", "load": "**cuts the load**"}[order.hazard.value]
    signs = " or ".join(_effect(effect) for effect in order.effects) or "nothing"
    return (
        code(order.name), ", ".join(_spelling(form) for form in order.forms), value, hazard or "–", signs,
        code(order.undo) if order.undo else "–",
    )  # fmt: skip


def orders() -> str:
    """Every instant command, and below it where a dialect has it otherwise."""
    headings = ("command", "bytes", "value", "hazard", "seen to work by", "undone by")
    parts = [table(headings, [_order_row(order) for order in MEGATEC.orders])]
    for dialect in FAMILY:
        other = [order for order in dialect.orders if order not in MEGATEC.orders]
        if other:
            parts += ["", f"Different in `{dialect.name}`:", "", table(headings, [_order_row(order) for order in other])]
    return "\n".join(parts)


SHUTDOWNS = (
    (30, 180), (12, 180), (54, 180), (59, 180), (60, 180), (95, 180), (600, 180), (30, 0), (30, 59), (600, 0), (30, 60),
    (30, 200), (30, 599940),
)  # fmt: skip
"""Delays to show, seconds: (ups.delay.shutdown, ups.delay.start)."""


def shutdowns() -> str:
    """What the two shutdown commands send for some delays, as set by the user."""
    rows = []
    for off_s, on_s in SHUTDOWNS:
        given = {"ups.delay.shutdown": off_s, "ups.delay.start": on_s}
        kept = {setting.name: setting.truncate(given[setting.name]) for setting in MEGATEC.settings}
        sent = [prepare(MEGATEC, name, None, kept, {}).request for name in ("shutdown.return", "shutdown.stayoff")]
        rows.append((f"{off_s}", f"{on_s}", *(f"{value:g}" for value in kept.values()), *(code(each) for each in sent)))
    return table(
        ("offdelay", "ondelay", "kept as ups.delay.shutdown", "and ups.delay.start", "shutdown.return", "shutdown.stayoff"), rows
    )


def settings() -> str:
    """The writable variables with their ranges and steps."""
    rows = []
    for setting in MEGATEC.settings:
        steps, low = [], setting.low
        for below, step in setting.steps:
            steps.append(f"{low:g}–{below - 1:g} s: down to {step:g} s")
            low = below
        rows.append(
            (code(setting.name), code(setting.option), f"{setting.low:g}–{setting.high:g} s", f"{setting.default:g} s",
             "; ".join(steps))
        )  # fmt: skip
    return table(("variable", "option", "range", "default", "cut"), rows)


def words() -> str:
    """What is understood as yes and as no."""
    rows = [
        ("carried out", ", ".join(code(word) for word in sorted(ACCEPTANCES))),
        ("not known, or refused", ", ".join(code(word) for word in sorted(REFUSALS))),
    ]
    return table(("meaning", "reply"), rows)


def variables() -> str:
    """The variable list."""
    rows = [
        (code(each.name), each.unit or ("text" if each.kind.value == "text" else "–"), each.description,
         {None: "–"}.get(each.column, f"`{each.column}` × {each.scale}"))
        for each in VARIABLES.values()
    ]  # fmt: skip
    return table(("variable", "unit", "meaning", "column of table `reading`"), rows)


def _seconds(seconds: float) -> str:
    return f"{seconds:g} s" if seconds else "at once"


def _rule_row(rule: Rule) -> tuple[str, ...]:
    return (
        code(rule.name), rule.kind.value, rule.severity.name.lower(), rule.begins, _seconds(rule.raise_s), rule.ends,
        _seconds(rule.clear_s),
    )  # fmt: skip


def rules() -> str:
    """Every condition that is made from readings."""
    headings = ("name", "kind", "severity", "text at its begin", "after", "text at its end", "after")
    return table(headings, [_rule_row(rule) for rule in RULES])


def instructions() -> str:
    """What the simulator can be told."""
    return table(("instruction", "what it does"), [(code(usage), meaning) for usage, meaning in INSTRUCTIONS])


def usb_devices() -> str:
    """The device table, in its order."""
    rows = []
    for row in DEVICES:
        texts = " / ".join(code(text) if text else "any" for text in (row.vendor, row.product)) if row.product else "any"
        rows.append((code(row.ids), texts, row.bridge or "–", row.known_as))
    return table(("ids", "vendor / product text", "bridge", "known as"), rows)


def _holds(condition: Holds) -> str:
    values = ", ".join(str(value) for value in condition.values)
    if not values:
        return f"{code(condition.name)} {'unknown' if condition.negated else 'known'}"
    return f"{code(condition.name)} {'not ' if condition.negated else ''}{values}"


def voltronic_queries() -> str:
    """Every question to a voltronic UPS."""
    rows = []
    for query in VOLTRONIC.queries:
        names = dict.fromkeys(field.name for reply in query.replies for field in reply.fields)
        when = ", or ".join(" and ".join(_holds(condition) for condition in conditions) for conditions in query.when)
        told = [code(name) for name in names if not name.startswith("qx.")]
        more = " …" if told[MOST_NAMES:] else ""
        asked = " and ".join(words for tier, words in ASKED.items() if query.tier & tier)
        tells = ", ".join(told[:MOST_NAMES]) + more or JOINED[query.command]
        rows.append((code(query.command), asked, when or "–", tells))
    return table(("question", "asked", "of units with", "tells"), rows)


ASKED = {Tier.QUICK: "every poll", Tier.FULL: "every full poll", Tier.ONCE: "once", Tier.AFTER_ORDER: "after orders"}

JOINED = {b"QMOD\r": "the mode", b"QWS\r": "the warnings below", b"QFS\r": "the fault's code and what stood at its begin"}
"""What becomes status and events instead of variables."""

MOST_NAMES = 12
"""Names of a question that tells more; the rest is of the same kind."""


def voltronic_warnings() -> str:
    """The warning bits."""
    rows = [(str(number), text, what, str(level)) for number, text, what, level in WARNINGS_TABLE]
    return table(("bit", "text", "about", "level"), rows)


def voltronic_orders() -> str:
    """Every instant command of the dialect."""
    headings = ("command", "bytes", "value", "hazard", "seen to work by", "undone by")
    return table(headings, [_order_row(order) for order in VOLTRONIC.orders])


def voltronic_settings() -> str:
    """What the device keeps and can be told."""
    rows = [
        (code(setting.name), code(setting.option or ""), setting.description) for setting in VOLTRONIC.device_settings
    ]
    return table(("variable", "option", "meaning"), rows)


OTHERS = tuple(dialect for dialect in DIALECTS if dialect.source.startswith("extra-dialects.md"))
"""The dialects that have a page together."""

TIERS = ((Tier.QUICK, "every poll"), (Tier.FULL, "every `full_interval`"), (Tier.AFTER_ORDER, "once, and after orders"),
         (Tier.ONCE, "once"))  # fmt: skip


def _gives(query: Query) -> str:
    names = [field.name for reply in query.replies for field in reply.fields]
    names += [each.name for reply in query.replies for each in reply.derived]
    shown_names = [name for name in dict.fromkeys(names) if name in VARIABLES]
    bits = sum(name.startswith("bit.") for name in dict.fromkeys(names))
    parts = [code(name) for name in shown_names] + ([f"{bits} status bits"] if bits else [])
    return ", ".join(parts) or "–"


def _bytes_of_order(dialect: Dialect, order: Order) -> str:
    settings = {setting.name: setting.default for setting in dialect.settings}
    known: dict[str, float | str | bool] = {"ups.id": "00"}
    known |= {holds.name: holds.values[0] for holds in order.when if holds.values}
    prepared = prepare(dialect, order.name, None, settings, known)
    return ", then ".join(code(each) for each in (*prepared.first, prepared.request))


def other_dialects() -> str:
    """Questions, orders and settings of each dialect that is on the page of the others."""
    parts: list[str] = []
    for dialect in sorted(OTHERS, key=lambda each: each.name):
        parts += [f"### {dialect.name}", "", f"{dialect.title}. {NOTES[dialect.name]}", ""]
        rows = [
            (code(shown(query.command)), next(text for tier, text in TIERS if query.tier & tier), _gives(query))
            for query in dialect.queries
        ]  # fmt: skip
        parts += [table(("question", "asked", "gives"), rows), ""]
        derived = [each.name for each in dialect.derived if each.name in VARIABLES]
        if derived:
            parts += ["Worked out: " + ", ".join(code(name) for name in dict.fromkeys(derived)) + ".", ""]
        if dialect.orders:
            rows = [(code(order.name), _bytes_of_order(dialect, order), order.description) for order in dialect.orders]
            parts += [table(("order", "bytes with the delays as they are by default", "what it does"), rows), ""]
        else:
            parts += ["It has no orders.", ""]
        limits = [f"{code(s.name)} {s.low:g} to {s.high:g} s" for s in dialect.settings]
        limits += [code(s.name) for s in dialect.device_settings]
        if limits:
            allowed = " with `inverter_settings = true`" if dialect.guarded else ""
            parts += [f"Writable{allowed}: " + ", ".join(limits) + ".", ""]
    return "\n".join(parts).rstrip()


NOTES = {
    "voltronic-qs": (
        "Small line-interactive units (ViewPower software). They echo what they do not know; `QI` is one of "
        "the later variants'."
    ),
    "voltronic-qs-hex": (
        "The same units with a status in bytes, of which 28 00 to 28 04 stand for bytes that are never sent. "
        "Variant P tells no ratings: set `default.battery.voltage.nominal`."
    ),
    "bestups": (
        "Best Power Fortress, Patriot Pro, Axxium; Sola Australia. The third status bit is inverted on the "
        "Patriot Pro and means nothing on battery, in a test and before a shutdown."
    ),
    "masterguard": (
        "A and E series. Several units may share a line: what is addressed carries the unit's number. "
        "`bypass.start` leaves the load unprotected."
    ),
    "hunnox": (
        "Units behind the MEC0003 bridge; on it `UPS No Ack` after an order means that it was taken."
    ),
    "ablerex": (
        "The voltage of a block by `Q5` counts on mains only; on battery and in a test that of the status "
        "does, because it is fresh. An error word other than 0 is an alarm."
    ),
    "gtec": (
        "The state is letters. With the battery unplugged its voltage stays normal: the letters say it. A "
        "reply cut within its letters can't be told from a whole one."
    ),
    "innovatae": (
        "Ippon Innova TAE: the reply to `I` holds a firmware behind 27 times the digit 2."
    ),
    "innovart31": (
        "Ippon and Phoenixtec Innova RT 3/1. Told from 3/3 by an output of which the first phase alone has "
        "voltage."
    ),
    "innovart33": (
        "Ippon and Phoenixtec Innova RT 3/3."
    ),
    "q6": (
        "Santak Castle and other units that answer `Q6`, with one to three phases: what a unit does not have "
        "it says with dashes."
    ),
    "q2": (
        "The same with `Q2` in the place of `Q6`."
    ),
    "omron": (
        "BN75T, BN150T. Orders are two steps, and each must be answered with `OK`; the second is not sent "
        "after a refused first. By its USB id (0590) it is known at once."
    ),
    "voltronic-axpert": (
        "Off-grid inverters that speak PI30 or PI41; every frame has a CRC. On mains by the grid's voltage "
        "(above half the nominal) unless `LINE_FAIL` is set: an inverter that runs from its battery by choice, "
        "as it does each evening with `solar, battery, utility`, is `OL DISCHRG` and no outage: mains are there, "
        "the inverter goes back to them by itself, and nobody's hosts are to stop at sunset. Settings move real "
        "loads and batteries: without `inverter_settings = true` it is only read."
    ),
}
"""What the tables do not say."""


BLOCKS: dict[str, Callable[[], str]] = {
    "options": lambda: option_reference().strip(),
    "variables": variables,
    "dialects": dialects,
    "other-dialects": other_dialects,
    "probes": probes,
    "detection": detection,
    "status-words": status_words,
    "status-bits": status_bits,
    "ratings": ratings,
    "vendor": vendor,
    "orders": orders,
    "shutdowns": shutdowns,
    "settings": settings,
    "words": words,
    "rules": rules,
    "instructions": instructions,
    "usb-devices": usb_devices,
    "voltronic-queries": voltronic_queries,
    "voltronic-warnings": voltronic_warnings,
    "voltronic-orders": voltronic_orders,
    "voltronic-settings": voltronic_settings,
}


def renewed(page: str) -> str:
    """The page with each generated part made anew. Raises KeyError for a part nobody makes."""
    return BLOCK.sub(lambda part: f"{part['head']}{BLOCKS[part['name']]()}\n{part['end']}", page)


def main() -> None:
    """Rewrite the pages that are not up to date."""
    for page in sorted(DOCS.rglob("*.md")):
        before = page.read_text()
        after = renewed(before)
        if after != before:
            page.write_text(after)


if __name__ == "__main__":
    main()
