"""Arguments as they come, made into a request; or a sentence that says which is wrong, and what was expected."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from qxfleet.errors import BadRequest

if TYPE_CHECKING:
    from qxfleet.api.requests import Request


@dataclass(frozen=True, slots=True)
class Between:
    """A number's bounds, both included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Longest:
    """Characters of a text; of a list, how many texts it has."""

    most: int


@dataclass(frozen=True, slots=True)
class OrNumber:
    """A number is taken for the text of it."""


LONGEST_ITEM = 200
"""Characters of one text of a list."""


def read_request(do: object, arguments: object) -> Request[Any]:
    """The request of that name with these arguments. Raises BadRequest."""
    from qxfleet.api.requests import REQUESTS

    kind = REQUESTS.get(do) if isinstance(do, str) else None
    if kind is None:
        raise BadRequest(f'expected {{"id", "do", "args"}} with "do" one of {", ".join(REQUESTS)}')
    if not isinstance(arguments, Mapping):
        raise BadRequest(f'{do}: expected "args" to be an object with {_names(kind)}')
    hints = _hints(kind)
    if unknown := sorted(map(str, arguments.keys() - hints.keys())):
        raise BadRequest(f"{do}: there is no argument {unknown[0]!r}; it takes {_names(kind)}")
    found: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in arguments:
            found[field.name] = _read(f"{do}: {field.name}", hints[field.name], arguments[field.name], ())
        elif field.default is MISSING:
            raise BadRequest(f"{do}: {field.name} is missing; it takes {_names(kind)}")
    return kind(**found)


_HINTS: dict[type[Any], dict[str, Any]] = {}


def _hints(kind: type[Any]) -> dict[str, Any]:
    if kind in _HINTS:
        return _HINTS[kind]
    hints = get_type_hints(kind, include_extras=True)
    return _HINTS.setdefault(kind, {field.name: hints[field.name] for field in fields(kind)})


def _names(kind: type[Request[Any]]) -> str:
    return ", ".join(_hints(kind)) or "no arguments"


def _read(where: str, form: Any, value: object, bounds: tuple[object, ...]) -> Any:
    origin = get_origin(form)
    if origin is Annotated:
        inner, *more = get_args(form)
        return _read(where, inner, value, (*bounds, *more))
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (each for each in get_args(form) if each is not type(None))
        return _read(where, inner, value, bounds)
    if origin is Literal:
        if value not in get_args(form):
            raise BadRequest(f"{where}: expected one of {', '.join(map(str, get_args(form)))}, found {_shown(value)}")
        return value
    if origin is tuple:
        return _texts(where, value, bounds)
    if form is bool:
        if not isinstance(value, bool):
            raise BadRequest(f"{where}: expected true or false, found {_shown(value)}")
        return value
    if form in (int, float):
        return _number(where, form, value, bounds)
    return _text(where, value, bounds)


def _texts(where: str, value: object, bounds: tuple[object, ...]) -> tuple[str, ...]:
    most = next(each.most for each in bounds if isinstance(each, Longest))
    if not isinstance(value, (list, tuple)) or len(value) > most:
        raise BadRequest(f"{where}: expected a list of at most {most} texts, found {_shown(value)}")
    return tuple(_text(where, each, (Longest(LONGEST_ITEM),)) for each in value)


def _number(where: str, form: type[int] | type[float], value: object, bounds: tuple[object, ...]) -> float:
    between = next((each for each in bounds if isinstance(each, Between)), Between(float("-inf"), float("inf")))
    whole = "a whole number" if form is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not between.low <= value <= between.high:
        raise BadRequest(f"{where}: expected {whole} from {between.low:g} to {between.high:g}, found {_shown(value)}")
    if form is int and value != int(value):
        raise BadRequest(f"{where}: expected a whole number, found {_shown(value)}")
    return form(value)


def _text(where: str, value: object, bounds: tuple[object, ...]) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and OrNumber() in bounds:
        value = str(value) if isinstance(value, int) else f"{value:.15g}"
    most = next(each.most for each in bounds if isinstance(each, Longest))
    if not isinstance(value, str) or len(value) > most:
        raise BadRequest(f"{where}: expected a text of at most {most} characters, found {_shown(value)}")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise BadRequest(f"{where}: half a surrogate pair is no character")
    return value


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
