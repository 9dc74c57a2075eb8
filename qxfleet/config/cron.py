"""Five-field cron expressions, as far as their form goes; what runs them is the agent's calendar."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qxfleet.config.findings import did_you_mean, toml_text
from qxfleet.config.forms import Form

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_PART = re.compile(r"(?:(\*)|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:/([0-9]+))?")


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


_FIELDS = (_Field("minute", 0, 59), _Field("hour", 0, 23), _Field("day", 1, 31), _Field("month", 1, 12, MONTHS))


class Cron(Form):
    """Minute, hour, day, month, weekday. Weekdays by name, because their numbers mean different days in different programs."""

    words = 'minute hour day month weekday, as in "0 3 * * sun"'

    def read(self, value: object) -> str:
        """The expression in small letters, its fields parted by one blank."""
        if not isinstance(value, str):
            raise ValueError(f"expected {self.words} in quotes, found {toml_text(value)}")
        parts = value.lower().split()
        if len(parts) != 5:
            raise ValueError(f"expected five fields, {self.words}, found {len(parts)} in {toml_text(value)}")
        for field, text in zip(_FIELDS, parts, strict=False):
            for item in text.split(","):
                _check(field, item, value)
        if parts[4] != "*":
            for item in parts[4].split(","):
                _check_weekdays(item, value)
        return " ".join(parts)


def _check(field: _Field, item: str, whole: str) -> None:
    match = _PART.fullmatch(item)
    if match is None:
        raise ValueError(f'expected *, a number, a range like 1-5 or */10 as {field.name}, found "{item}" in {toml_text(whole)}')
    first, last = (_number(field, word, whole) for word in match.group(2, 3))
    if first is not None and last is not None and last < first:
        raise ValueError(f'the {field.name} range "{item}" runs backwards in {toml_text(whole)}: write two, with a comma between')
    if match[4] is None:
        return
    low, high, step = first or field.low, last if last is not None else field.high, int(match[4])
    if step == 0:
        raise ValueError(f'a step of 0 never comes, found "{item}" in {toml_text(whole)}')
    if step > high - low:
        raise ValueError(f'a step of {step} never comes within {low}-{high}, found "{item}" in {toml_text(whole)}')


def _number(field: _Field, word: str | None, whole: str) -> int | None:
    if word is None:
        return None
    if word in field.words:
        return field.words.index(word) + field.low
    if not word.isdecimal():
        raise ValueError(f'"{word}" is no {field.name} in {toml_text(whole)}{did_you_mean(word, field.words)}')
    if not field.low <= int(word) <= field.high:
        raise ValueError(f"expected a {field.name} from {field.low} to {field.high}, found {word} in {toml_text(whole)}")
    return int(word)


def _check_weekdays(item: str, whole: str) -> None:
    for word in item.split("-"):
        if word in DAYS:
            continue
        if word.isdecimal():
            raise ValueError(
                f"weekdays by name, their numbers mean different days in different programs: write mon to sun instead of {word} "
                f"in {toml_text(whole)}"
            )
        raise ValueError(f'"{word}" is no weekday (mon, tue, wed, thu, fri, sat, sun) in {toml_text(whole)}'
                         f"{did_you_mean(word, DAYS)}")  # fmt: skip
    first, _, last = item.partition("-")
    if item.count("-") > 1 or (last and DAYS.index(last) < DAYS.index(first)):
        raise ValueError(f'expected a weekday or a range within mon-sun, found "{item}" in {toml_text(whole)}: write single days')
