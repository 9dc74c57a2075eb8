"""Real parts that tests need and pip can't bring."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def absent(complaint: str) -> NoReturn:
    """End a test for want of a part: a failure under ``CI=true``, else a skip that says what to type."""
    if os.environ.get("CI") == "true":
        pytest.fail(complaint)
    pytest.skip(complaint)
