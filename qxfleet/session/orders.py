"""Orders as bytes, and what the device's behaviour says became of them. Pure; the session sends.

Sources: megatec-family.md sections 10.2 to 10.6; quirks.md '"I do not know that command"'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qxfleet.dialects.spec import AnswerStyle, Arg, Dialect, Effect, Form, Order, Style
from qxfleet.errors import OrderInvalid, OrderNotSupported
from qxfleet.model.events import Outcome, SettingInfo
from qxfleet.model.reading import Value
from qxfleet.model.wire import Answer, sort_answer


@dataclass(frozen=True, slots=True)
class Prepared:
    """An order ready to be sent: its bytes, and the argument as text if it took one."""

    order: Order
    request: bytes
    value: str | None


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


def _usable(form: Form, args: Mapping[str, float], facts: Mapping[str, Value]) -> bool:
    if not all(holds.of(facts) for holds in form.needs):
        return False
    return all(low <= args[name] < high + 1 for name, low, high in form.where)


def prepare(
    dialect: Dialect, name: str, value: str | None, settings: Mapping[str, float], facts: Mapping[str, Value]
) -> Prepared:
    """The bytes of one instant command. Raises OrderNotSupported or OrderInvalid; nothing was sent then.

    ``shutdown.default`` is ``shutdown.return``, the session maps it where ``stayoff`` is set.
    """
    order = dialect.order(name)
    if order is None:
        known = ", ".join(order.name for order in dialect.orders)
        raise OrderNotSupported(f"{name}: the dialect {dialect.name} has no such command; it has {known}")
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
            request = b"".join(
                write_number(args[part.name], part.style) if isinstance(part, Arg) else part for part in form.parts
            )
            return Prepared(order, request, text)
    bounds = [
        (low, high)
        for form in order.forms
        if all(holds.of(facts) for holds in form.needs)
        for name_, low, high in form.where
        if name_ == "value"
    ]
    low, high = min(bound[0] for bound in bounds), max(bound[1] for bound in bounds)
    raise OrderInvalid(f"{name}: {text} is out of range, {low:g} to {high:g} seconds are possible on this device")


def judge(dialect: Dialect, request: bytes, frame: bytes | None) -> Outcome | None:
    """What the device's word for an order means; None where only later readings can tell (``frame`` None: silence)."""
    answer = Answer.SILENCE if frame is None else sort_answer(request, frame)
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


def seen(effect: Effect, before: Mapping[str, Value | bool], now: Mapping[str, Value | bool]) -> bool:
    """Whether a reading after the order shows what the reading before it did not."""
    old, new = before.get(effect.name), now.get(effect.name)
    if new is None or old is None:
        return False
    if effect.low is not None and effect.high is not None:
        inside = [isinstance(v, float) and effect.low <= v <= effect.high for v in (old, new)]
        return inside == [False, True]
    if effect.becomes is None:
        return old != new
    return new is effect.becomes and old is not effect.becomes


def setting_info(dialect: Dialect, settings: Mapping[str, float]) -> tuple[SettingInfo, ...]:
    """The writable variables of a dialect with their present values."""
    return tuple(
        SettingInfo(setting.name, settings.get(setting.name), setting.low, setting.high, (), setting.description)
        for setting in dialect.settings
    )


def check_setting(dialect: Dialect, name: str, value: str) -> float:
    """The value a setting would take, truncated to its step. Raises OrderNotSupported or OrderInvalid."""
    setting = dialect.setting(name)
    if setting is None:
        known = ", ".join(setting.name for setting in dialect.settings)
        raise OrderNotSupported(f"{name}: not writable in the dialect {dialect.name}; writable are {known}")
    seconds = number(value, name)
    if not setting.low <= seconds <= setting.high:
        raise OrderInvalid(f"{name}: {value} is out of range, {setting.low:g} to {setting.high:g} seconds are possible")
    return setting.truncate(seconds)
