"""The incumbent's packages: needed here, and not brought by pip."""

from __future__ import annotations

import pytest

from tests.compat.incumbent import missing
from tests.parts import absent


@pytest.fixture(scope="session")
def incumbent_installed() -> None:
    """Skip where the incumbent is missing, saying what to install; under ``CI=true`` fail."""
    if complaint := missing():
        absent(complaint)
