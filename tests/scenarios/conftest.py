"""Scenarios play in real time with whole agents: all of them run with ``make test-more``."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder ``more``; the hook is given those of the other folders too."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("more")
