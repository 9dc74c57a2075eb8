"""What every dialect must pass; a new one is tested by being in the registry."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from qxfleet.dialects.megatec import MEGATEC
from qxfleet.dialects.registry import DIALECTS, dialect_named, names
from qxfleet.dialects.spec import PART, Among, Dialect, Order, Query, Setting, Tier, Topic, problems
from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.errors import OrderInvalid, OrderNotSupported, ReplyError
from qxfleet.model.events import LinkChange
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.model.variables import VARIABLES
from qxfleet.model.wire import Answer, shown, sort_answer
from qxfleet.session.orders import prepare
from qxfleet.session.plans import filled, read
from qxfleet.session.session import Session
from qxfleet.testing.simulator import SimulatedUps
from qxfleet.testing.voltronic.models import model
from qxfleet.testing.voltronic.ups import VoltronicUps
from qxfleet.transports.inproc import InProcTransport
from tests.virtual import VirtualClock, run_virtual

QUERIES = [(dialect, query) for dialect in DIALECTS for query in dialect.queries]
ORDERS = [(dialect, order) for dialect in DIALECTS for order in dialect.orders]
SETTINGS = [(dialect, setting) for dialect in DIALECTS for setting in dialect.settings]


def label(value: object) -> str | None:
    if isinstance(value, Dialect):
        return value.name
    if isinstance(value, Query):
        return shown(value.command)
    if isinstance(value, Order | Setting):
        return value.name
    return None


@pytest.mark.parametrize("dialect", DIALECTS, ids=label)
def test_the_table_makes_sense(dialect: Dialect) -> None:
    assert problems(dialect) == []
    assert dialect_named(dialect.name.upper()) is dialect
    assert dialect.source and dialect.title
    quick = [reply for query in dialect.tier(Tier.QUICK) for reply in query.replies]
    told = [*(field.name for reply in quick for field in reply.fields), *(derived.name for derived in dialect.derived)]
    assert "bit.utility_fail" in told


def test_names_are_unique() -> None:
    assert len(set(names())) == len(DIALECTS)


@pytest.mark.parametrize(("dialect", "query"), QUERIES, ids=label)
def test_samples_mean_what_the_table_says(dialect: Dialect, query: Query) -> None:
    for sample in query.samples:
        values = read(query, sample.frame)
        assert {name: values.get(name) for name in sample.values} == dict(sample.values), sample.source
        assert sample.source


@pytest.mark.parametrize(("dialect", "query"), QUERIES, ids=label)
def test_a_cut_reply_never_moves_a_value(dialect: Dialect, query: Query) -> None:
    """Every front part of a sample is refused, or gives only values the whole one gives too.

    Letters in any number, and a number without a fixed length, don't show that they were cut: those are cut before them only.
    """
    ends = [field.where.start for reply in query.replies for field in reply.fields if isinstance(field.where, Among)]
    ends += [2] if query.command == b"BL\r" else []
    for sample in query.samples:
        whole = read(query, sample.frame)
        for end in range(min([len(sample.frame), *ends])):
            try:
                part = read(query, sample.frame[:end])
            except ReplyError:
                continue
            if query.topic is Topic.STATUS:
                assert part == whole, sample.frame[:end]
            for name, value in part.items():
                whole_value = whole.get(name)
                text_cut = isinstance(value, str) and isinstance(whole_value, str) and whole_value.startswith(value)
                assert text_cut or value == whole_value, (name, sample.frame[:end])


@pytest.mark.parametrize(("dialect", "query"), QUERIES, ids=label)
@pytest.mark.parametrize("refusal", [b"(NAK", b"NAK", b"N", b"UPS No Ack", b"(NAK\0\0\0", None])
def test_refusals_and_echoes_are_never_data(dialect: Dialect, query: Query, refusal: bytes | None) -> None:
    frame = query.command.rstrip(b"\r") if refusal is None else refusal
    assert sort_answer(query.command, frame) in (Answer.ECHO, Answer.REFUSED)
    if query.topic is Topic.PROTOCOL:
        assert not read_or_nothing(query, frame)
    else:
        with pytest.raises(ReplyError):
            read(query, frame)


def read_or_nothing(query: Query, frame: bytes) -> dict[str, object]:
    try:
        return dict(read(query, frame))
    except ReplyError:
        return {}


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(MEGATEC.queries, 2)), ids=label)
def test_one_querys_reply_is_never_anothers(one: Query, other: Query) -> None:
    """A ratings frame may pass as a short vendor text, which says nothing; no other pair is confused."""
    for sample in other.samples:
        assert not read_or_nothing(one, sample.frame), (one.command, sample.frame)


@pytest.mark.parametrize(("dialect", "order"), ORDERS, ids=label)
def test_orders_can_be_written_at_both_ends_of_their_ranges(dialect: Dialect, order: Order) -> None:
    aux: dict[str, float | str | bool] = {"ups.firmware.aux": "Voltronic Power P98", "ups.beeper.status": "enabled"}
    aux["ups.id"] = "00"
    aux |= {holds.name: holds.values[0] if holds.values else "yes" for holds in order.when}
    ends = [(setting.low, setting.high, setting.default) for setting in dialect.settings]
    for delays in itertools.product(*ends):
        settings = dict(zip((setting.name for setting in dialect.settings), delays, strict=True))
        for value in (None,) if order.value is None else (f"{order.value[0]:g}", f"{order.value[1]:g}", None):
            request = prepare(dialect, order.name, value, settings, aux).request
            assert request.endswith(b"\r") and request.count(b"\r") == 1 and len(request) <= 20
            assert request.decode("ascii").isprintable() or request[:-1].decode("ascii").isprintable()
    if order.value is not None:
        for outside in (order.value[0] - 1, order.value[1] + 1, -1, 0):
            with pytest.raises(OrderInvalid):
                prepare(dialect, order.name, f"{outside:g}", {s.name: s.default for s in dialect.settings}, aux)
        with pytest.raises(OrderInvalid):
            prepare(dialect, order.name, "ten", {s.name: s.default for s in dialect.settings}, aux)
    else:
        with pytest.raises(OrderInvalid):
            prepare(dialect, order.name, "5", {s.name: s.default for s in dialect.settings}, aux)


@pytest.mark.parametrize(("dialect", "setting"), SETTINGS, ids=label)
def test_settings_name_variables_and_truncate_downwards(dialect: Dialect, setting: Setting) -> None:
    assert setting.name in VARIABLES
    assert setting.low <= setting.default <= setting.high
    for value in (setting.low, setting.low + 1, 59, 60, 61, 95, 119, setting.default, setting.high):
        if setting.low <= value <= setting.high:
            assert value - 60 < setting.truncate(value) <= value


@pytest.mark.parametrize(("dialect", "order"), [(d, order) for d, order in ORDERS if order.when], ids=label)
def test_an_order_is_offered_only_by_a_device_that_has_it(dialect: Dialect, order: Order) -> None:
    with pytest.raises(OrderNotSupported):
        prepare(dialect, order.name, None, {setting.name: setting.default for setting in dialect.settings}, {})


def simulated(dialect: Dialect) -> SimulatedUps | VoltronicUps:
    return VoltronicUps(dialect, model("P01"), name="sim") if dialect is VOLTRONIC else SimulatedUps(dialect, name="sim", seed=1)


@pytest.mark.parametrize("dialect", DIALECTS, ids=label)
@pytest.mark.parametrize("told", ["its name", "auto"])
def test_the_simulator_speaks_it_and_a_session_knows_it(dialect: Dialect, told: str) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        ups = simulated(dialect)
        seen: list[object] = []
        link = InProcTransport("sim", lambda request: ups.answer(request, loop.time()))
        options = UpsOptions("sim", "/dev/x", dialect=dialect.name if told == "its name" else "auto")
        session = Session(options, link, seen.append, VirtualClock(loop), phase_s=loop.time())
        running = asyncio.create_task(session.run())
        for _ in range(120):
            session.wake(loop.time())
            await asyncio.sleep(0.25)
        assert session.dialect is dialect
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [item.link.value for item in seen if isinstance(item, LinkChange)] == ["online"]
        reading = [item for item in seen if isinstance(item, Reading)][-1]
        asked = [query for query in dialect.queries if not query.when and query.topic is not Topic.TESTING]
        known: set[str] = set()
        for query in asked:
            frame = ups.answer(filled(query.command, {"ups.id": "00"}) or b"", loop.time())
            assert frame is not None, query.command
            known |= {name for name in read(query, frame[:-1]) if not name.startswith(("bit.", PART))}
        assert known <= set(reading.values), known - set(reading.values)
        assert reading.texts()["ups.status"] == "OL"

    run_virtual(story())
