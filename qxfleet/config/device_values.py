"""Values that a device itself is to keep, checked as far as the tables of the dialects can tell before contact."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from qxfleet.config.durations import parse_duration
from qxfleet.config.findings import did_you_mean, toml_text
from qxfleet.config.forms import Form
from qxfleet.dialects.registry import DIALECTS
from qxfleet.dialects.spec import DeviceSetting, Dialect
from qxfleet.model.variables import VARIABLES

YES = ("yes", "enabled")
NO = ("no", "disabled")


def device_setting_named(name: str) -> DeviceSetting | None:
    """The setting of that variable, or of that option, in the first dialect that has it."""
    return next((found for dialect in DIALECTS if (found := dialect.device_setting(name)) is not None), None)


def dialects_with(name: str) -> tuple[Dialect, ...]:
    """The dialects whose devices may have that setting."""
    return tuple(dialect for dialect in DIALECTS if dialect.device_setting(name) is not None)


def belongs(names: tuple[str, ...]) -> str:
    """``the voltronic dialect``."""
    return f"the {', '.join(names)} dialect{'s' if len(names) > 1 else ''}"


@dataclass(frozen=True)
class DeviceValue(Form):
    """A value for one setting, as text the device's dialect takes.

    A number must lie in a range that some device has; which one this device has is known at contact only.
    """

    setting: DeviceSetting

    @staticmethod
    def of(option: str) -> DeviceValue:
        """The form of a setting that some dialect has. Raises LookupError for one that none has."""
        setting = device_setting_named(option)
        if setting is None:
            raise LookupError(option)
        return DeviceValue(setting)

    @property
    def words(self) -> str:
        """The choices, or unit, range and step."""
        setting = self.setting
        if setting.choices:
            return " or ".join(", ".join(f'"{word}"' for word, _ in setting.choices).rsplit(", ", 1))
        ranges = _ranges(setting)
        unit = f" {self._unit}" if self._unit else ""
        text = " or ".join(f"{low:g} to {high:g}" for low, high in ranges) + unit if ranges else f"number{unit}"
        text += f" in steps of {setting.step:g}" if setting.step != 1 else ""
        bounded = "" if ranges and not setting.limits[1:] else "; the device's own range is checked at contact"
        return text + bounded

    @property
    def _unit(self) -> str:
        variable = VARIABLES.get(self.setting.name)
        return variable.unit if variable else ""

    def read(self, value: object) -> str:
        """The value as text, numbers without needless digits."""
        return self._choice(value) if self.setting.choices else self._number(value)

    def _choice(self, value: object) -> str:
        words = [word for word, _ in self.setting.choices]
        text = value
        if type(value) is int and all(word.isdecimal() for word in words):
            text = f"{value:03d}"  # an angle without quotes: TOML has no leading zeros
        if isinstance(text, str) and text in words:
            return text
        raise ValueError(f"expected {self.words}, found {toml_text(value)}{self._meant(value, words)}")

    @staticmethod
    def _meant(value: object, words: list[str]) -> str:
        plain = str(value).lower()
        if plain in ("true", "on", "1", *YES, "enable"):
            meant = next((word for word in words if word in YES), None)
        elif plain in ("false", "off", "0", *NO, "disable"):
            meant = next((word for word in words if word in NO), None)
        else:
            meant = None
        if meant is None and plain.isdecimal() and f"{int(plain):03d}" in words:
            meant = f"{int(plain):03d}"
        if meant is not None:
            return f': write "{meant}"'
        return did_you_mean(plain, words) if isinstance(value, str) else ""

    def _number(self, value: object) -> str:
        unit = f" of {self._unit}" if self._unit else ""
        if isinstance(value, str) and self._unit == "s":
            number = parse_duration(value)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            bare = value.strip() if isinstance(value, str) else ""
            remedy = f": write {bare}" if bare.replace(".", "", 1).isdecimal() else ""
            raise ValueError(f"expected a number{unit}, found {toml_text(value)}{remedy}")
        else:
            number = value
        setting, ranges = self.setting, _ranges(self.setting)
        if ranges and not any(low <= number <= high for low, high in ranges):
            raise ValueError(f"expected {self.words}, found {toml_text(value)}")
        if not ranges and not 0 < number < 1000:
            raise ValueError(f"expected a number{unit} above 0 and below 1000, found {toml_text(value)}")
        if Decimal(str(number)) % Decimal(str(setting.step)):
            below = Decimal(str(number)) // Decimal(str(setting.step)) * Decimal(str(setting.step))
            raise ValueError(
                f"expected a multiple of {setting.step:g}{' ' + self._unit if self._unit else ''}, the device knows no finer "
                f"step, found {toml_text(value)}: write {float(below):g} or {float(below) + setting.step:g}"
            )
        return f"{number:g}"


def _ranges(setting: DeviceSetting) -> list[tuple[float, float]]:
    """Where a value may lie on some device, ranges that touch joined; nothing if that follows from a nominal value."""
    if any(limit.base for limit in setting.limits):
        return []
    joined: list[tuple[float, float]] = []
    for low, high in sorted((limit.low, limit.high) for limit in setting.limits):
        if joined and low <= joined[-1][1] + setting.step:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined
