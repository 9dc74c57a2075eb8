"""The words a dialect is written in, and the check that a table makes sense."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from qxfleet.model.notice import Notice
from qxfleet.model.reading import Value
from qxfleet.model.variables import VARIABLES


class Tier(enum.IntFlag):
    """When a query is asked."""

    QUICK = 1
    """Every poll; without its answer there is no reading."""
    FULL = 2
    """Every ``full_interval``."""
    ONCE = 4
    """After the device was recognised."""
    AFTER_ORDER = 8
    """Once, again after an order or a setting succeeded (the incumbent's "semi-static"), and every ten minutes."""


class Topic(enum.Enum):
    """What a query is about, as far as options of the seeds can switch it off."""

    STATUS = "status"
    RATING = "rating"
    VENDOR = "vendor"
    PROTOCOL = "protocol"
    DEVICE = "device"
    """What no option of the seeds switches off."""
    TESTING = "testing"
    """Asked only where the option ``testing`` is set."""


class Convert(enum.Enum):
    """How a field's characters become a value; a closed list."""

    NUMBER = "number"
    POINTED = "pointed"
    """A number that must have a decimal point: without one it is something else (quirks.md, battery field ``0100``)."""
    TEXT = "text"
    """Characters stripped of blanks and ``#``; blank, dots, or one character repeated mean "not told" (quirks.md, I)."""
    BIT = "bit"
    """``0`` or ``1``; anything else is unknown. ``choices`` gives the two values, ``(False, True)`` if empty."""
    CODE = "code"
    """Characters as they stand, without blanks around them; dashes and blanks alone mean "not told"."""
    UNSIGNED = "unsigned"
    """Bytes as one number, high byte first; in columns, or a word of a reply with ``widths``. With ``numbers``: which of them."""
    FLAG = "flag"
    """A bit of a word of bytes; ``choices`` as with BIT."""
    DATE = "date"
    """``YYYYMMDD`` as ``YYYY-MM-DD``; what is no date is not told."""
    CLOCK = "clock"
    """Seconds, written as ``minutes.seconds`` or ``days:hours:minutes:seconds``."""
    MARK = "mark"
    """Whether a letter is among others; ``choices`` as with BIT, None for one that says nothing."""


@dataclass(frozen=True, slots=True)
class Token:
    """Word ``index`` of a blank-separated reply, counted after the lead character."""

    index: int


@dataclass(frozen=True, slots=True)
class Span:
    """Columns ``start`` up to, not including, ``stop``; the lead character is column 0. ``stop`` None: to the end."""

    start: int
    stop: int | None


@dataclass(frozen=True, slots=True)
class Char:
    """Character ``index`` of the reply's word of status bits."""

    index: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A capability letter: enabled behind ``E``, disabled behind ``D``, else not there (voltronic.md section 8)."""

    letter: str


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits ``highest`` to ``lowest`` of word ``word`` of a reply with ``widths``; bit 0 is the lowest of its last byte."""

    word: int
    highest: int
    lowest: int


@dataclass(frozen=True, slots=True)
class Among:
    """Whether one of ``letters`` is among the capital letters from column ``start`` on, in any order and number."""

    start: int
    letters: str


class Lines(enum.Enum):
    """What the lines of a reply of several are; a closed list (RFC 9271, LIST and GET TYPE)."""

    VARIABLES = "variables"
    """``name "value"``: each is published under its own name, a number where the variable list has one."""
    NAMES = "names"
    """A name each: of an order that the device offers, told as :data:`OFFERS` and the name."""
    FORMS = "forms"
    """``TYPE name words``, ``ENUM name "value"`` or ``RANGE name "low" "high"``: what a setting takes, told as :data:`TAKES` and
    the name."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a reply of VARIABLES gives under ``name``; where it has none, the text of ``instead``, or the lowest or the highest
    number of others."""

    name: str
    instead: str = ""
    lowest: tuple[str, ...] = ()
    highest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """Whether one of ``words``, in capitals, is among the words of what a reply of VARIABLES gives under ``name``, case ignored.

    Not among them means no, with ``other`` only where one of those is; ``silent`` is what it means that the name is not told.
    """

    name: str
    words: tuple[str, ...]
    other: tuple[str, ...] = ()
    silent: bool | None = None


@dataclass(frozen=True, slots=True)
class Holds:
    """A condition on what is known of a device: ``name`` has one of ``values`` (any value, if there are none listed).

    ``negated``: it has not, or is not known.
    """

    name: str
    values: tuple[Value | bool, ...] = ()
    negated: bool = False

    def of(self, known: Mapping[str, Value | bool]) -> bool:
        """Whether it holds of what is known."""
        value = known.get(self.name)
        return (value is not None and (not self.values or value in self.values)) is not self.negated


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a reply: a variable name or ``bit.…``, where it stands, how it is read."""

    name: str
    where: Token | Span | Char | Letter | Bits | Among | Named | Word
    convert: Convert = Convert.NUMBER
    scale: float = 1.0
    choices: tuple[str | None, str | None] | None = None
    words: tuple[tuple[str, str], ...] = ()
    """Text as sent → value published; a text not listed is not published. Empty: every text is published as it is."""
    numbers: tuple[float, ...] = ()
    """What an UNSIGNED of 0, 1, … stands for; what is not listed is not published."""
    live: bool = False
    """Changes while the device runs: a ONCE query that gave it is asked again every ``full_interval``."""
    critical: bool = False
    """A bit on whose account loads are shut down: a NUL in its place is unknown, never 0."""
    after: str = ""
    """The text begins behind the first of these characters, if there is one."""
    wins: bool = False
    """Stands above the QUICK query's field of the same name."""


PART = "part."
"""What begins the name of a value that serves to derive others and is not published."""

OFFERS, TAKES = f"{PART}offers.", f"{PART}takes."
"""What begins the name by which a device's own list of orders, and of what its settings take, is known."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A value that follows from others: the product of ``of`` ÷ the product of ``over``, × ``scale``.

    Before that it is cut down to a multiple of ``step``, and after it to ``most`` at most; with a ``table`` of (at least, value)
    rows, highest first, the first row that fits gives the value. It is there only where all it is made of is known, each of
    ``given`` is a number with low <= it < high, and every condition of ``when`` holds; nothing is divided by zero. Rules are gone
    through in order; of several for one name the first that can counts. Without ``wins`` a value that was told stands.
    """

    name: str
    of: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    scale: float = 1.0
    step: float = 0.0
    most: float = float("inf")
    table: tuple[tuple[float, Value | bool], ...] = ()
    given: tuple[tuple[str, float, float], ...] = ()
    when: tuple[Holds, ...] = ()
    wins: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The shape of one reply, end byte not counted.

    ``tokens`` bounds the number of words (None: the reply is read by columns); runs of blanks separate them, or each
    ``separator``. ``length`` bounds its characters. ``widths``: the reply is words of so many bytes each, one blank between
    them, in which 28 00 to 28 04 stand for bytes that are never sent as they are (extra-dialects.md section 4.1). ``bits`` is
    (word, width) of the status bits. ``digits`` names columns that must all be digits, which tells
    layouts apart that share a lead. ``blanks`` names columns that must be blanks: the shape of a reply read by columns.
    ``alphabet``: characters of which the reply must consist behind its lead. ``lenient``: a bad field costs that field
    only, not the frame. ``derived`` is what follows from its fields alone. ``render`` is the %-template the simulator answers
    with; without one it answers with the query's first sample.
    """

    lead: bytes
    fields: tuple[Field, ...]
    tokens: tuple[int, int] | None = None
    length: tuple[int, int] = (1, 255)
    bits: tuple[int, int] | None = None
    digits: tuple[int, int] | None = None
    blanks: tuple[int, ...] = ()
    alphabet: str = ""
    lenient: bool = False
    render: str = ""
    widths: tuple[int, ...] = ()
    separator: str = " "
    derived: tuple[Derived, ...] = ()
    lines: Lines | None = None
    """The reply is lines, each with a name; its fields are ``Named`` or ``Word``."""
    hides: tuple[str, ...] = ()
    """How names begin that are not published."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply from a document or a capture, and what it means; never our own output."""

    frame: bytes
    values: Mapping[str, Value | bool]
    source: str


@dataclass(frozen=True, slots=True)
class Query:
    """A question without side effects. ``replies`` are the layouts it may be answered in, first fit wins. What stands in braces
    in ``command``, and in orders and settings, is the value of that name: the address of a unit among several on a line.

    ``when``: asked only while all conditions of one of these sets hold; empty: always. ``watch`` names status bits: the answer
    counts only beside the bits it was given with, so the question is asked at once when one of them changes.
    """

    command: bytes
    replies: tuple[Reply, ...]
    tier: Tier
    topic: Topic
    samples: tuple[Sample, ...] = ()
    source: str = ""
    when: tuple[tuple[Holds, ...], ...] = ()
    watch: tuple[str, ...] = ()
    crc: bool = False
    """Its replies end with a CRC, without which they are nothing; it is cut off before they are read."""
    sealed: bool = False
    """Its length tells whether the device closes its replies with a CRC (voltronic.md section 1.5)."""


class Style(enum.Enum):
    """How a number of seconds is written into an order; a closed list (megatec-family.md section 10.2)."""

    TENTHS_OR_MINUTES = "n"
    """Below 60 s a dot and the tenths of a minute, else two digits of minutes: 30 → ``.5``, 600 → ``10``."""
    MINUTES_2 = "nn"
    MINUTES_4 = "mmmm"
    TENTHS = ".d"


@dataclass(frozen=True, slots=True)
class Arg:
    """An argument in the middle of an order: a setting's name, or ``value`` for what the order itself was given."""

    name: str
    style: Style


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write an order. Usable if each of ``where`` (name, low, high in seconds) and all ``needs`` hold.

    ``first`` is sent before it; unless the device accepts that by a word, nothing else is sent.
    """

    parts: tuple[bytes | Arg, ...]
    where: tuple[tuple[str, float, float], ...] = ()
    needs: tuple[Holds, ...] = ()
    first: bytes = b""


class AnswerStyle(enum.Enum):
    """What a device says to an order it carries out."""

    SILENT = "silent"
    WORD = "word"


class Hazard(enum.Enum):
    """What an order can cost."""

    NONE = "none"
    BATTERY = "battery"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Effect:
    """A sign in later readings that an order worked: a bit that becomes so (None: that flips), a word, or a range."""

    name: str
    becomes: bool | None = None
    word: str | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """An instant command. ``value`` bounds its own argument in seconds as (low, high, default); None: it takes none."""

    name: str
    forms: tuple[Form, ...]
    description: str
    value: tuple[float, float, float] | None = None
    hazard: Hazard = Hazard.NONE
    effects: tuple[Effect, ...] = ()
    undo: str | None = None
    source: str = ""
    when: tuple[Holds, ...] = ()
    """Offered only by a device of which all this is known."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A writable variable that qxfleet keeps for the device. ``steps``: (below this, truncate down to multiples of)."""

    name: str
    option: str
    low: float
    high: float
    default: float
    steps: tuple[tuple[float, float], ...]
    description: str
    source: str = ""

    def kept(self, seconds: float) -> float:
        """What comes nearest to ``seconds`` of all that the device takes."""
        return self.truncate(min(max(seconds, self.low), self.high))

    def truncate(self, seconds: float) -> float:
        """The value as it is kept: cut down to the step of its range."""
        for below, step in self.steps:
            if seconds < below:
                return seconds // step * step
        return seconds


@dataclass(frozen=True, slots=True)
class Limit:
    """Bounds of a device's setting, in its unit: ``low`` and ``high``, plus the value of ``base`` if one is named.

    Holds where every condition of ``when`` does and the product of the whole parts of ``gauge`` lies in
    ``at_least`` <= product < ``below``; ``base`` and all of ``gauge`` must be known.
    """

    low: float
    high: float
    base: str = ""
    gauge: tuple[str, ...] = ()
    at_least: float = 0
    below: float = float("inf")
    when: tuple[Holds, ...] = ()
    step: float = 0
    """Finer values than this can't be sent here; 0: than the setting's own."""


@dataclass(frozen=True, slots=True)
class DeviceSetting:
    """A writable variable that the device itself keeps.

    ``name`` is the published variable, ``option`` its name in the seeds' configuration (the same if empty). It has ``choices``
    (text → request), or ``limits`` (first that holds) and ``wire``, a %-template for value / ``unit``, or for the ``d``, ``h``,
    ``m`` and ``s`` of so many seconds; or ``wire`` and ``longest``, for any text of so many characters. Values finer than
    ``step`` can't be sent; with ``cuts`` they are cut down to it. ``when``: conditions under which the device has it;
    ``now``: conditions for changing it, with ``why_not`` for people. ``read_back`` is the query that shows it, if any does.
    ``above``/``below`` name settings it must stay above or below. ``shows_limits``: ``.min`` and ``.max`` are published.
    ``upsets`` says what else changes with it.
    """

    name: str
    description: str
    read_back: bytes | None
    choices: tuple[tuple[str, bytes], ...] = ()
    wire: str = ""
    limits: tuple[Limit, ...] = ()
    unit: float = 1
    step: float = 1
    cuts: bool = False
    option: str = ""
    longest: int = 0
    when: tuple[Holds, ...] = ()
    now: tuple[Holds, ...] = ()
    why_not: str = ""
    above: str = ""
    below: str = ""
    shows_limits: bool = False
    upsets: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What it means that ``name`` (a variable or ``bit.…``) has ``value``: status flags set and taken away, and a notice.

    ``value`` None: any value that no other meaning of that name lists, or any number in ``low`` <= it < ``high``; ``{}`` in
    its notice stands for it.
    """

    name: str
    value: Value | bool | None
    sets: int = 0
    clears: int = 0
    notice: Notice | None = None
    when: tuple[Holds, ...] = ()
    low: float = float("-inf")
    high: float = float("inf")


@dataclass(frozen=True, slots=True)
class Flags:
    """A variable of ``0`` and ``1`` characters, each with its own meaning when it is ``1``; notices stay for two answers."""

    name: str
    meanings: tuple[tuple[int, Notice], ...]
    """(status flags set, notice) per character."""


@dataclass(frozen=True, slots=True)
class Nuance:
    """Another word for a value of ``name``, while ``when`` holds: (as read, as published) pairs."""

    name: str
    when: tuple[Holds, ...]
    says: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """How a device is told what it offers by its own lists: %-templates of an order's name, and of a setting's name and value.

    ``shows``: the query that gives how the settings stand.
    """

    order: str
    setting: str
    shows: bytes


@dataclass(frozen=True, slots=True)
class Want:
    """One condition of a claim: a request that is answered, is not answered, or is answered with one of ``replies``.

    ``gives`` names a value the answer must hold: one of ``values``, where there are any, and if a number no less than ``least``.
    """

    request: bytes
    answered: bool = True
    replies: tuple[bytes, ...] = ()
    gives: str = ""
    values: tuple[Value, ...] = ()
    least: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Claim:
    """How a dialect is recognised: one of ``any_of`` sets holds, and its status query is answered and gives ``needs``.

    ``heard``: status questions of which one was answered for this claim to be looked into; empty: its own. ``links``: USB
    vendor ids on which nothing else is asked than the status.
    """

    status: bytes
    any_of: tuple[tuple[Want, ...], ...] = ((),)
    needs: tuple[str, ...] = ()
    heard: tuple[bytes, ...] = ()
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """One dialect: its questions, orders, settings, and how it is recognised.

    Every dialect has exactly one QUICK status query whose reply carries ``bit.utility_fail``. Where several queries give
    the same variable, the first of ``queries`` wins; a field that ``wins`` stands above the status query's.
    ``accepts``: how the only acceptances begin, case ignored; empty: any known word. ``derived``: what follows from a status
    reply and all else that is known. ``seals``: a CRC closes its orders and settings. ``avr``: where this holds, "bypass,
    boost or buck" near input voltage means AVR.
    """

    name: str
    title: str
    queries: tuple[Query, ...]
    orders: tuple[Order, ...]
    claim: Claim
    settings: tuple[Setting, ...] = ()
    answer: AnswerStyle = AnswerStyle.SILENT
    static: Mapping[str, Value] = field(default_factory=dict)
    source: str = ""
    device_settings: tuple[DeviceSetting, ...] = ()
    meanings: tuple[Meaning, ...] = ()
    flags: tuple[Flags, ...] = ()
    nuances: tuple[Nuance, ...] = ()
    accepts: tuple[bytes, ...] = ()
    scales_battery: bool = True
    """A battery voltage reported per cell or block is published as that of the whole battery, not only reckoned with."""
    avr: tuple[Holds, ...] = ()
    avr_notice: Notice | None = None
    derived: tuple[Derived, ...] = ()
    seals: bool = False
    guarded: bool = False
    """Its settings move loads and batteries: they are there only where the option ``inverter_settings`` is set."""
    listing: Listing | None = None
    """Orders and settings are those that the device lists; of ``orders`` it has those that it names."""
    unknown: tuple[bytes, ...] = ()
    """How a reply begins that says that there is no such order or setting."""

    def overlay(self, name: str, title: str, **changes: object) -> Dialect:
        """A dialect that differs from this one in ``changes`` only."""
        return replace(self, name=name, title=title, **changes)  # type: ignore[arg-type]

    def tier(self, tier: Tier) -> tuple[Query, ...]:
        """The queries of one tier, in table order."""
        return tuple(query for query in self.queries if query.tier & tier)

    def order(self, name: str) -> Order | None:
        """The instant command of that name."""
        return next((order for order in self.orders if order.name == name), None)

    def setting(self, name: str) -> Setting | None:
        """The writable variable of that name."""
        return next((setting for setting in self.settings if setting.name == name), None)

    def device_setting(self, name: str) -> DeviceSetting | None:
        """The writable variable of that name, or of that option, that the device keeps."""
        return next((each for each in self.device_settings if name in (each.name, each.option)), None)

    def query(self, command: bytes) -> Query | None:
        """The query that sends ``command``."""
        return next((query for query in self.queries if query.command == command), None)


ACTS = re.compile(
    rb"Q|C|CT|CB.*|T|TL|TUD.*|T[.\d].*|S[.\d].*|S(K?OFF|K?ON|RC|S-|S\d).*|FO(FF|N)|FCLR.*|A[nf]|Sf.*|BP\d|PNV=.*"
    rb"|P(OP|CP|GR|BT|BCV|BDV|SDV|CVV|BFT|[ED][a-z]).+|PF..|M[NU]?CHGC.+|F\d\d.*|V\d{3}.*"
)
"""Strings that act on a device of one dialect or another and must never be a query of any (megatec-family.md section 9.5,
extra-dialects.md section 2.3)."""


def acts(command: bytes) -> bool:
    """Whether a string acts on a device of any dialect."""
    return ACTS.fullmatch(command.rstrip(b"\r")) is not None


def word_of(where: Token | Bits) -> int:
    """Which word a place is in."""
    return where.index if isinstance(where, Token) else where.word


def problems(dialect: Dialect) -> list[str]:
    """What is wrong with a table; empty for a good one. Run for every registered dialect by the compliance suite."""
    found: list[str] = []
    quick = dialect.tier(Tier.QUICK)
    if not quick:
        found.append("no QUICK query")
    for query in dialect.queries:
        command = query.command
        label = command.decode("latin-1").strip()
        if not command.endswith(b"\r") or command.count(b"\r") != 1:
            found.append(f"{label}: must end with exactly one CR")
        if acts(command):
            found.append(f"{label}: acts on the device, can't be a query")
        if not query.samples:
            found.append(f"{label}: no sample reply")
        if not query.source:
            found.append(f"{label}: no source")
        for reply in query.replies:
            for fld in reply.fields:
                if not fld.name.startswith(("bit.", PART)) and fld.name not in VARIABLES:
                    found.append(f"{label}: unknown variable {fld.name}")
                if isinstance(fld.where, Char) and (reply.bits is None or fld.where.index >= reply.bits[1]):
                    found.append(f"{label}: {fld.name} lies outside the status bits")
                most = len(reply.widths) or (reply.tokens or (0, 0))[1]
                if isinstance(fld.where, Token | Bits) and word_of(fld.where) >= most:
                    found.append(f"{label}: {fld.name} lies outside the words")
                if isinstance(fld.where, Span) and fld.where.start >= reply.length[1]:
                    found.append(f"{label}: {fld.name} lies outside the columns")
    fields = {field.name for query in dialect.queries for reply in query.replies for field in reply.fields}
    derived = {each.name for query in dialect.queries for reply in query.replies for each in reply.derived}
    derived |= {each.name for each in dialect.derived}
    found += [f"{name}: unknown variable" for name in sorted(derived)
              if not name.startswith(("bit.", PART)) and name not in VARIABLES]
    fields |= derived
    listed = dialect.listing is not None
    for setting in dialect.device_settings:
        if setting.name not in VARIABLES:
            found.append(f"{setting.name}: unknown variable")
        if bool(setting.choices) is bool(setting.wire and (setting.limits or setting.longest)):
            found.append(f"{setting.name}: needs choices, or wire and limits, or wire and longest")
        if setting.read_back is not None:
            query_ = dialect.query(setting.read_back)
            replies = query_.replies if query_ else ()
            given = {f.name for reply in replies for f in reply.fields} | {d.name for reply in replies for d in reply.derived}
            if setting.name not in given:
                found.append(f"{setting.name}: its query does not give it")
    conditions: list[Holds] = [
        *(holds for query in dialect.queries for holds_all in query.when for holds in holds_all),
        *(holds for order in dialect.orders for holds in order.when),
        *(holds for setting in dialect.device_settings for holds in (*setting.when, *setting.now)),
    ]
    conditions += [holds for derived in dialect.derived for holds in derived.when]
    used = [holds.name for holds in conditions]
    used += [meaning.name for meaning in dialect.meanings] + [flags.name for flags in dialect.flags]
    for name in sorted(each for each in set(used) - fields if not (listed and each.startswith(OFFERS))):
        found.append(f"{name}: a condition or meaning of what no query gives")
    for order in dialect.orders:
        if order.undo and dialect.order(order.undo) is None:
            found.append(f"{order.name}: undo {order.undo} does not exist")
        if not order.forms:
            found.append(f"{order.name}: no form")
    if not any(query.command == dialect.claim.status for query in quick):
        found.append("the claim's status query is not a QUICK query")
    return found
