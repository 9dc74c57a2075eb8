"""Nouns of which every poll makes one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(kind: type[T]) -> type[T]:
    """A dataclass with slots that nobody may change; the type checker sees to that, at run time nothing does.

    Freezing at run time makes making one five times as dear, and a poll makes two.
    """
    return dataclass(slots=True)(kind)
