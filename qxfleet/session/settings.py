"""Writable variables: what a value would become, whether it may be set, and what reading it back says. Pure; the session sends.

Two kinds: those kept here for instant commands (``ups.delay.*``), and those the device keeps (voltronic.md sections 9 and 10).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from qxfleet.dialects.spec import DeviceSetting, Dialect, Setting
from qxfleet.errors import OrderInvalid, OrderNotSupported
from qxfleet.model.events import SettingInfo
from qxfleet.model.reading import Value
from qxfleet.model.variables import VARIABLES, Kind, value_text
from qxfleet.model.wire import sealing
from qxfleet.session.limits import bounds_of, limits_of
from qxfleet.session.lines import as_number, quoted, writable
from qxfleet.session.orders import number
from qxfleet.session.plans import filled

Known = Mapping[str, Value | bool]


@dataclass(frozen=True, slots=True)
class Change:
    """A setting ready to be changed. ``request`` is empty where nothing is to be sent: it is kept here, or stands already."""

    setting: Setting | DeviceSetting
    wanted: Value
    request: bytes = b""
    note: str = ""

    @property
    def name(self) -> str:
        """The variable."""
        return self.setting.name

    @property
    def value(self) -> str:
        """The value as text."""
        return value_text(self.name, self.wanted)


def prepare_change(dialect: Dialect, name: str, text: str, known: Known) -> Change:
    """What setting ``name`` (a variable or a seed's option) to ``text`` means now.

    Raises OrderNotSupported or OrderInvalid; nothing was sent then. ``known`` is what the device said.
    """
    if (kept := dialect.setting(name)) is not None:
        return _keep(kept, text)
    setting = dialect.device_setting(name)
    if setting is None and dialect.guarded and not dialect.device_settings:
        raise OrderNotSupported(f"{name}: inverters are only read; inverter_settings = true in its [[ups]] lets them be set")
    if setting is None:
        raise OrderNotSupported(f"{name}: not writable in the dialect {dialect.name}; writable are {_names(dialect)}")
    _available(setting, known)
    now = known.get(setting.name)
    if setting.longest:
        wanted, request = _written(setting, text)
    else:
        wanted, request = _chosen(setting, text) if setting.choices else _measured(setting, text, known)
    if wanted == now:
        return Change(setting, wanted, b"", "already so, nothing was sent")
    if not all(holds.of(known) for holds in setting.now):
        raise OrderInvalid(f"{name}: {setting.why_not}")
    _in_order(setting, wanted, known)
    request = filled(request, known) or b""
    if not request:
        raise OrderInvalid(f"{name}: not possible yet, the device has not told its address")
    if dialect.seals:
        request = sealing(request.rstrip(b"\r"))
    note = f"it also {setting.upsets}" if setting.upsets.startswith("resets") else setting.upsets
    return Change(setting, wanted, request, note)


def _keep(setting: Setting, text: str) -> Change:
    seconds = number(text, setting.name)
    if not setting.low <= seconds <= setting.high:
        raise OrderInvalid(f"{setting.name}: {text} is out of range, {setting.low:g} to {setting.high:g} seconds are possible")
    kept = setting.truncate(seconds)
    return Change(setting, kept, b"", "" if kept == seconds else f"kept as {kept:g}: the device takes steps only")


def _available(setting: DeviceSetting, known: Known) -> None:
    if not all(holds.of(known) for holds in setting.when) or (setting.read_back is not None and setting.name not in known):
        raise OrderNotSupported(f"{setting.name}: this device has not told it, so it has no such setting")


def _chosen(setting: DeviceSetting, text: str) -> tuple[Value, bytes]:
    for choice, request in setting.choices:
        if choice.lower() == text.strip().lower() or (choice.isdigit() and text.strip().isdigit() and int(choice) == int(text)):
            return choice, request
    raise OrderInvalid(f"{setting.name}: {text!r} is not one of {', '.join(choice for choice, _ in setting.choices)}")


def _measured(setting: DeviceSetting, text: str, known: Known) -> tuple[Value, bytes]:
    """A number within the limits that this device has, and that can be written without rounding."""
    value = number(text, setting.name)
    bounds = bounds_of(setting, known)
    if bounds is None:
        raise OrderNotSupported(f"{setting.name}: its limits are not known for this device, so it can't be set")
    low, high, step = bounds
    if not low <= value <= high:
        raise OrderInvalid(f"{setting.name}: {text} is out of range, {low:g} to {high:g} are possible on this device")
    if step and Decimal(str(value)) % Decimal(str(step)):
        if not setting.cuts:
            raise OrderInvalid(f"{setting.name}: {text} can't be written, the device takes steps of {step:g}")
        value = value // step * step
    units = value / setting.unit
    if "%(" in setting.wire:
        return value, (setting.wire % _clock(int(value))).encode()
    return value, (setting.wire % (int(units) if setting.unit != 1 else units)).encode()


def _written(setting: DeviceSetting, text: str) -> tuple[Value, bytes]:
    """A text as it is; where the variable is a number, a number."""
    if len(text) > setting.longest or not writable(text):
        raise OrderInvalid(f"{setting.name}: {text!r} can't be written, expected up to {setting.longest} printable characters, "
                           "without braces")  # fmt: skip
    number_ = as_number(setting.name, text)
    listed = VARIABLES.get(setting.name)
    if number_ is None and listed is not None and listed.kind is Kind.NUMBER:
        raise OrderInvalid(f"{setting.name}: {text!r} is not a number")
    shown = text.strip() if number_ is None else f"{number_:.10g}"
    return shown if number_ is None else number_, (setting.wire % quoted(shown)).encode()


def _clock(seconds: int) -> dict[str, int]:
    """Seconds as days, hours, minutes and seconds."""
    return {"d": seconds // 86400, "h": seconds // 3600 % 24, "m": seconds // 60 % 60, "s": seconds % 60}


def _in_order(setting: DeviceSetting, wanted: Value, known: Known) -> None:
    """An upper limit stays above its lower one (voltronic.md section 9.2)."""
    for partner, higher in ((setting.above, True), (setting.below, False)):
        other = known.get(partner)
        if partner and isinstance(other, float) and isinstance(wanted, float):
            fits = wanted > other if higher else wanted < other
            if not fits:
                raise OrderInvalid(
                    f"{setting.name}: {wanted:g} must be {'above' if higher else 'below'} {partner}, which is {other:g}"
                )


def _names(dialect: Dialect) -> str:
    return ", ".join([*(each.name for each in dialect.settings), *(each.name for each in dialect.device_settings)])


def setting_info(dialect: Dialect, kept: Mapping[str, float], known: Known) -> tuple[SettingInfo, ...]:
    """The writable variables of a device with their present values, and their range or choices as this device has them."""
    shown = [
        SettingInfo(setting.name, kept.get(setting.name), setting.low, setting.high, (), setting.description)
        for setting in dialect.settings
    ]
    for setting in dialect.device_settings:
        limits = None if setting.choices or setting.longest else limits_of(setting, known)
        try:
            _available(setting, known)
        except OrderNotSupported:
            continue
        if not setting.choices and not setting.longest and limits is None:
            continue
        value = known.get(setting.name)
        low, high = limits or (None, None)
        choices = tuple(choice for choice, _ in setting.choices)
        shown.append(
            SettingInfo(setting.name, value if not isinstance(value, bool) else None, low, high, choices, setting.description)
        )
    return tuple(shown)


def capabilities(dialect: Dialect, known: Known) -> str:
    """One line that says which of its settings a device has, where they stand, and which it has not."""
    infos = setting_info(dialect, {}, known)
    device = {setting.name for setting in dialect.device_settings}
    there = []
    for info in infos:
        if info.name not in device or info.value is None:
            continue
        bounds = "/".join(info.choices) or (f"{info.low:g}..{info.high:g}" if info.low is not None else "any text")
        there.append(f"{info.name} {value_text(info.name, info.value)} ({bounds})")
    without = sorted(device - {info.name for info in infos})
    text = ", ".join(there) or "no settings of its own"
    return text + (f"; without {', '.join(without)}" if without else "")
