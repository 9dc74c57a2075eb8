"""Orders as bytes, and what the device's behaviour says became of them. Pure; the session sends.

Sources: megatec-family.md sections 10.2 to 10.6; quirks.md '"I do not know that command"'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qxfleet.dialects.spec import AnswerStyle, Arg, Dialect, Effect, Form, Hazard, Order, Style
from qxfleet.errors import OrderInvalid, OrderNotSupported
from qxfleet.model.events import Outcome
from qxfleet.model.reading import Value
from qxfleet.model.wire import Answer, sort_answer
from qxfleet.session.plans import filled


@dataclass(frozen=True, slots=True)
class Prepared:
    """An order ready to be sent: its bytes, and the argument as text if it took one. ``first``: what must be accepted before."""

    order: Order
    request: bytes
    value: str | None
    first: tuple[bytes, ...] = ()


def number(text: str, what: str) -> float:
    """A number typed by a person. Raises OrderInvalid."""
    try:
        value = float(text)
    except ValueError:
        raise OrderInvalid(f"{what}: {text!r} is not a number of seconds") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise OrderInvalid(f"{what}: {text!r} is not a number of seconds")
    return value


def write_number(seconds: float, style: Style) -> bytes:
    """Seconds as they are written into an order (megatec-family.md section 10.2)."""
    if style is Style.TENTHS or (style is Style.TENTHS_OR_MINUTES and seconds < 60):
        return b".%d" % int(seconds // 6)
    width = 4 if style is Style.MINUTES_4 else 2
    return b"%0*d" % (width, int(seconds // 60))


def _usable(form: Form, args: Mapping[str, float], facts: Mapping[str, Value | bool]) -> bool:
    if not all(holds.of(facts) for holds in form.needs):
        return False
    return all(low <= args[name] < high + 1 for name, low, high in form.where)


def prepare(
    dialect: Dialect, name: str, value: str | None, settings: Mapping[str, float], facts: Mapping[str, Value | bool]
) -> Prepared:
    """The bytes of one instant command. Raises OrderNotSupported or OrderInvalid; nothing was sent then.

    ``facts`` is what the device said; by that it offers an order or not, and takes it in this or that form.

    ``shutdown.default`` is ``shutdown.return``, the session maps it where ``stayoff`` is set.
    """
    order = dialect.order(name)
    if order is None:
        known = ", ".join(order.name for order in dialect.orders)
        raise OrderNotSupported(f"{name}: the dialect {dialect.name} has no such command; it has {known}")
    if not offered(order, facts):
        raise OrderNotSupported(f"{name}: this device does not offer it")
    args = dict(settings)
    text = None
    if order.value is None:
        if value is not None:
            raise OrderInvalid(f"{name}: takes no value, was given {value!r}")
    else:
        low, high, default = order.value
        args["value"] = default if value is None else number(value, name)
        text = f"{args['value']:g}"
    for form in order.forms:
        if _usable(form, args, facts):
            request = filled(b"".join(
                write_number(args[part.name], part.style) if isinstance(part, Arg) else part for part in form.parts
            ), facts)  # fmt: skip
            if request is None:
                raise OrderInvalid(f"{name}: not possible yet, the device has not told its address")
            return Prepared(order, request, text, (form.first,) if form.first else ())
    bounds = [
        (low, high)
        for form in order.forms
        if all(holds.of(facts) for holds in form.needs)
        for name_, low, high in form.where
        if name_ == "value"
    ]
    if not bounds:
        raise OrderInvalid(f"{name}: not possible now, the device is in another state")
    low, high = min(bound[0] for bound in bounds), max(bound[1] for bound in bounds)
    raise OrderInvalid(f"{name}: {text} is out of range, {low:g} to {high:g} seconds are possible on this device")


def offered(order: Order, facts: Mapping[str, Value | bool]) -> bool:
    """Whether a device of which this is known has the order at all."""
    return all(holds.of(facts) for holds in order.when)


def judge(dialect: Dialect, request: bytes, frame: bytes | None) -> Outcome | None:
    """What the device's word for an order means; None where only later readings can tell (``frame`` None: silence)."""
    answer = Answer.SILENCE if frame is None else sort_answer(request, frame)
    if frame is not None and frame.startswith(dialect.unknown or (b"\0",)):
        return Outcome.UNSUPPORTED
    if dialect.accepts and frame is not None:
        if frame.strip(b"\0\n ").upper().startswith(dialect.accepts):
            return Outcome.ACCEPTED
        if answer is Answer.ACCEPTED:
            return Outcome.REJECTED
    if answer is Answer.ACCEPTED:
        return Outcome.ACCEPTED
    if answer is Answer.ECHO:
        return Outcome.UNSUPPORTED
    if answer is Answer.REFUSED:
        return Outcome.REJECTED
    if answer is Answer.SILENCE:
        return None
    return Outcome.REJECTED


def without_evidence(dialect: Dialect) -> Outcome:
    """The outcome of an order that was neither answered nor seen to work."""
    return Outcome.NO_ANSWER if dialect.answer is AnswerStyle.WORD else Outcome.UNCONFIRMED


def confirmed(order: Order, before: Mapping[str, Value | bool], now: Mapping[str, Value | bool]) -> Effect | None:
    """The effect that an order was to have and that was there before it and is there still: it has nothing to do.

    None for one that may cost something: there, what is so already shows nothing of this order.
    """
    if order.hazard is not Hazard.NONE:
        return None
    return next((effect for effect in order.effects if _stands(effect, before) and _stands(effect, now)), None)


def stood(order: Order, before: Mapping[str, Value | bool]) -> Effect | None:
    """The effect that was there before the order, so that no reading after it can confirm anything; None if none was."""
    return next((effect for effect in order.effects if _stands(effect, before)), None)


def _stands(effect: Effect, values: Mapping[str, Value | bool]) -> bool:
    value = values.get(effect.name)
    if effect.low is not None and effect.high is not None:
        return isinstance(value, float) and effect.low <= value <= effect.high
    if effect.word is not None:
        return value == effect.word
    return effect.becomes is not None and value is effect.becomes


def seen(effect: Effect, before: Mapping[str, Value | bool], now: Mapping[str, Value | bool]) -> bool:
    """Whether a reading after the order shows what the reading before it did not."""
    old, new = before.get(effect.name), now.get(effect.name)
    if new is None or old is None:
        return False
    if effect.low is not None and effect.high is not None:
        inside = [isinstance(v, float) and effect.low <= v <= effect.high for v in (old, new)]
        return inside == [False, True]
    if effect.word is not None:
        return new == effect.word and old != effect.word
    if effect.becomes is None:
        return old != new
    return new is effect.becomes and old is not effect.becomes
