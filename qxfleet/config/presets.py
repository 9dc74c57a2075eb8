"""``default.*`` and ``override.*``: variables a user sets for a UPS, however they are spelled in TOML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from qxfleet.config.findings import Findings, Place, did_you_mean, toml_text
from qxfleet.model.reading import Value
from qxfleet.model.variables import VARIABLES, Kind, Variable

KINDS = ("default", "override")

_BELONGS = {
    "ups.status": "it is made of what the UPS reports and can't be set",
    "ups.alarm": "it is made of what the UPS reports and can't be set",
    "ups.delay.start": 'set the option ondelay = "180s" instead',
    "ups.delay.shutdown": 'set the option offdelay = "30s" instead',
}
"""Variables that can't be preset, and what to do."""


@dataclass(slots=True)
class Presets:
    """The presets of one UPS by kind, and where each stands; ``sound`` is False if some had to be left out."""

    defaults: dict[str, Value] = field(default_factory=dict)
    overrides: dict[str, Value] = field(default_factory=dict)
    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    sound: bool = True

    @property
    def known(self) -> dict[str, Value]:
        """What holds when the UPS tells nothing; an override wins."""
        return {**self.defaults, **self.overrides}

    def place(self, name: str) -> Place:
        """Where the variable was preset."""
        return self.places.get(("override", name)) or self.places["default", name]


def take_presets(table: Mapping[str, object], at: Place, findings: Findings) -> tuple[dict[str, object], Presets]:
    """Split a ``[[ups]]`` table into its other keys and its presets.

    ``default.battery.packs``, ``default."battery.packs"`` and ``"default.battery.packs"`` are the same.
    """
    rest: dict[str, object] = {}
    presets = Presets()
    for key, value in table.items():
        kind = key.partition(".")[0]
        if kind not in KINDS:
            rest[key] = value
            continue
        for path, leaf in leaves(value, (key,)):
            name = ".".join(path)[len(kind) + 1 :]
            place = at.at(*path)
            problem = _problem(kind, name, leaf)
            if problem is None and (kind, name) in presets.places:
                problem = f"the same as at {presets.places[kind, name].spot}: keep one"
            if problem is not None:
                findings.problem(place, problem)
                presets.sound = False
                continue
            presets.places[kind, name] = place
            values = presets.defaults if kind == "default" else presets.overrides
            values[name] = leaf if isinstance(leaf, str) else float(leaf)  # type: ignore[arg-type]
    return rest, presets


def leaves(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """The values at the ends of nested tables, each with the keys that lead to it: dots in TOML nest."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def _problem(kind: str, name: str, value: object) -> str | None:
    if not name:
        return f"expected a variable's name behind it, as in {kind}.battery.packs = 2, found {toml_text(value)}"
    if isinstance(value, dict):
        return "nothing below it: remove it"
    variable = VARIABLES.get(name)
    if variable is None:
        return f'unknown variable "{name}"{did_you_mean(name, VARIABLES)}'
    if name in _BELONGS:
        return _BELONGS[name]
    if variable.kind is not Kind.NUMBER:
        return None if isinstance(value, str) else f'expected text in quotes, found {toml_text(value)}'
    return _number_problem(variable, kind, value)


def _number_problem(variable: Variable, kind: str, value: object) -> str | None:
    unit = f" of {variable.unit}" if variable.unit not in ("", "%") else " in percent" if variable.unit else ""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        bare = value.strip() if isinstance(value, str) else ""
        remedy = f": write {kind}.{variable.name} = {bare}" if bare.replace(".", "", 1).isdecimal() else ""
        return f"expected a number{unit}, found {toml_text(value)}{remedy}"
    if variable.name.startswith("battery.voltage") or variable.name in ("battery.packs", "battery.capacity"):
        return None if value > 0 else f"expected a number{unit} above 0, found {toml_text(value)}"
    if variable.unit == "%":
        high = 200 if variable.name == "ups.load" else 100
        return None if 0 <= value <= high else f"expected 0 to {high} percent, found {toml_text(value)}"
    if variable.unit != "°C" and value < 0:
        return f"expected a number{unit} of at least 0, found {toml_text(value)}"
    return None
