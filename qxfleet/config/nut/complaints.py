"""What was wrong with something carried over, and what was told of it."""

from __future__ import annotations

from dataclasses import dataclass

from qxfleet.config.findings import Findings, Place


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was not carried over as it stood: where, and what to do."""

    spot: str
    section: str
    text: str

    def __str__(self) -> str:
        return f"{self.spot}: {f'[{self.section}] ' if self.section else ''}{self.text}"


class Complaints(Findings):
    """Mistakes with the key they are about, counted from the block."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[tuple[str, str]] = []

    def problem(self, place: Place, text: str) -> None:
        self.problems.append((0, text))
        self.keys.append((".".join(str(part) for part in place.path[2:]), text))

    def warning(self, place: Place, text: str) -> None:
        """Whatever `check` warns of, it will warn of then."""
