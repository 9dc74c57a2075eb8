"""One ``[[profile]]`` block: a named set of settings, and the UPSes that are to have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qxfleet.config.delays import DELAY, delay_cut, delay_problem
from qxfleet.config.device_values import DeviceValue, belongs, device_setting_named, dialects_with
from qxfleet.config.findings import Findings, Place, did_you_mean, toml_text
from qxfleet.config.presets import leaves
from qxfleet.config.schema import ProfileTable
from qxfleet.config.tables import read_table
from qxfleet.dialects.registry import DIALECTS
from qxfleet.dialects.spec import DeviceSetting, Setting
from qxfleet.model.options import UpsOptions


@dataclass(frozen=True, slots=True)
class Profile:
    """``settings`` is variable → value as text, in the order in which they are to be set; ``upses`` are names in the
    fleet's order. ``go_on``: a refusal does not stop it."""

    name: str
    upses: tuple[str, ...]
    settings: Mapping[str, str]
    go_on: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A ``[[ups]]`` block as written, and its options; None if they could not be told."""

    table: Mapping[str, object]
    options: UpsOptions | None


_ORDER = (
    *dict.fromkeys(setting.name for dialect in DIALECTS for setting in dialect.settings),
    *dict.fromkeys(setting.name for dialect in DIALECTS for setting in dialect.device_settings),
)
"""The tables' order: what others depend on comes first."""

_ALIASES = {"costant_phase_angle": "constant_phase_angle"}


def read_profile(
    table: Mapping[str, object], at: Place, fleet: Sequence[Block], findings: Findings
) -> tuple[Profile, dict[str, Place]] | None:
    """The profile of one block, and where each of its settings stands; None if it has mistakes, which go to ``findings``."""
    before = len(findings.problems)
    read, broken = read_table(ProfileTable, table, at, findings)
    for key, example in _EXAMPLES.items():
        if key not in broken and not getattr(read, key):
            findings.problem(at.at(key), f"missing: every [[profile]] needs {example}")
    upses = _targets(read.targets, at, fleet, findings)
    settings, places = _settings(read.settings, at, upses, findings)
    if len(findings.problems) > before:
        return None
    names = tuple(ups.name for ups in upses)
    ordered = {name: settings[name] for name in _ORDER if name in settings}
    return Profile(read.name, names, ordered, read.on_refusal == "go-on"), places


def _targets(targets: Iterable[str], at: Place, fleet: Sequence[Block], findings: Findings) -> list[UpsOptions]:
    """The UPSes meant, each once, in the fleet's order."""
    names = [str(block.table.get("name")) for block in fleet]
    groups = {str(group) for block in fleet for group in _listed(block.table.get("groups"))}
    chosen: set[int] = set()
    for index, target in enumerate(targets):
        group = target.removeprefix("group:") if target.startswith("group:") else None
        if target == "all":
            found = set(range(len(fleet)))
        elif group is not None:
            found = {number for number, block in enumerate(fleet) if group in _listed(block.table.get("groups"))}
        else:
            found = {number for number, name in enumerate(names) if name == target}
        chosen |= found
        if not found and target != "all":
            guess = did_you_mean(group, groups) if group is not None else did_you_mean(target, names)
            who = f"no UPS is in group {toml_text(group)}" if group is not None else f"no UPS is named {toml_text(target)}"
            if group is None and target in groups:
                guess = f': write "group:{target}"'
            findings.problem(at.at("targets", index), f"{who}{guess}")
    return [options for number in sorted(chosen) if (options := fleet[number].options) is not None]


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _settings(
    table: Mapping[str, object], at: Place, upses: Sequence[UpsOptions], findings: Findings
) -> tuple[dict[str, str], dict[str, Place]]:
    """Variable → value as text, and where each stands."""
    values: dict[str, str] = {}
    places: dict[str, Place] = {}
    for path, leaf in (found for key, value in table.items() for found in leaves(value, (key,))):
        place, written = at.at("settings", *path), ".".join(path)
        name = _ALIASES.get(written, written)
        if name != written:
            findings.warning(place, f"a misspelling, which NUT itself does not read: write {name}")
        setting = _setting_named(name)
        problem = _problem(name, setting) or (setting and _homeless(setting, upses))
        if problem or setting is None:
            findings.problem(place, problem or "")
            continue
        if setting.name in places:
            findings.problem(place, f"the same setting as at {places[setting.name].spot}: keep one")
            continue
        places[setting.name] = place
        try:
            values[setting.name] = _value(setting, leaf, upses, place, findings)
        except ValueError as error:
            findings.problem(place, str(error))
    for name in values:
        setting = device_setting_named(name)
        below = setting.above if setting else ""
        if below in values and float(values[below]) >= float(values[name]):
            findings.problem(places[below], f"{values[below]} must be below {name}, which is {values[name]}")
    return values, places


def _setting_named(name: str) -> Setting | DeviceSetting | None:
    kept = (setting for dialect in DIALECTS for setting in dialect.settings if name in (setting.name, setting.option))
    return next(kept, None) or device_setting_named(name)


def _problem(name: str, setting: Setting | DeviceSetting | None) -> str | None:
    if setting is None:
        known = [*_ORDER, *(each.option for dialect in DIALECTS for each in dialect.device_settings if each.option)]
        if name.startswith(("beeper", "ups.beeper")):
            return f'no device can be set to "{name}": write alarm_control = "enabled" or "disabled"'
        return f'unknown setting "{name}"{did_you_mean(name, known) or "; `qxfleet settings NAME` lists those of a UPS"}'
    if isinstance(setting, DeviceSetting) and setting.read_back is None:
        return "an action, and no state that could be compared: write it into the [[ups]] blocks, or use `qxfleet set`"
    return None


def _homeless(setting: Setting | DeviceSetting, upses: Sequence[UpsOptions]) -> str | None:
    """A target is written down to speak a dialect that has no such setting."""
    able = [d.name for d in DIALECTS if d.setting(setting.name)] or [d.name for d in dialects_with(setting.name)]
    unable = [f'"{ups.name}" speaks {ups.dialect}' for ups in upses if ups.dialect not in ("auto", *able)]
    if not unable:
        return None
    more = f" (and {len(unable) - 1} more of the targets can't)" if len(unable) > 1 else ""
    return f"belongs to {belongs(tuple(able))}, {unable[0]}{more}: name other targets, or remove it"


def _value(
    setting: Setting | DeviceSetting, leaf: object, upses: Sequence[UpsOptions], place: Place, findings: Findings
) -> str:
    """The value as text. Raises ValueError."""
    if isinstance(setting, DeviceSetting):
        return DeviceValue(setting).read(leaf)
    seconds = int(DELAY.read(leaf))
    named = {ups.dialect for ups in upses}
    dialects = [dialect for dialect in DIALECTS if dialect.name in named or "auto" in named or not named]
    if problem := delay_problem(setting.option, seconds, dialects):
        raise ValueError(problem)
    cut = delay_cut(setting.option, seconds, dialects)
    if cut != seconds:
        findings.warning(place, f"{seconds} s is cut down to {cut} s, the devices know no finer step")
    return f"{cut}"


def warn_of_quarrels(profiles: Sequence[tuple[Profile, dict[str, Place]]], fleet: Sequence[Block], findings: Findings) -> None:
    """Two profiles, or a profile and a ``[[ups]]`` block, that want different values of one setting of one UPS."""
    wanted: dict[tuple[str, str], tuple[str, str]] = {}
    for options in (block.options for block in fleet if block.options is not None):
        for option, value in options.device_settings.items():
            setting = device_setting_named(option)
            if setting is not None:
                wanted[options.name, setting.name] = (value, "its [[ups]] block, which is applied at every contact")
    told: set[tuple[str, str]] = set()
    for profile, places in profiles:
        for ups in profile.upses:
            for name, value in profile.settings.items():
                other, who = wanted.setdefault((ups, name), (value, f"profile {profile.name}"))
                if other != value and (profile.name, name) not in told:
                    told.add((profile.name, name))
                    findings.warning(places[name], f"{value} for {ups}, but {who} says {other}: they undo each other")


_EXAMPLES = {
    "name": 'one, as in name = "servers"',
    "targets": 'some, as in targets = ["group:rack1"] or ["all"]',
    "settings": 'some, as in settings = { eco_mode = "disabled" }',
}
