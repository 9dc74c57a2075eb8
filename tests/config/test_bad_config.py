"""Every wrong file in ``tests/data/bad-config`` gets exactly the problems it names.

``# expect: A && B`` behind a line: one problem at that line of that file, holding every part. A folder is a
configuration of several files, ``qxfleet.toml`` first.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qxfleet.config.load import load
from qxfleet.errors import ConfigError

FOLDER = Path(__file__).parent.parent / "data" / "bad-config"
CASES = sorted(path for path in FOLDER.iterdir())


def expected(files: list[Path]) -> list[tuple[str, list[str]]]:
    """(start of the problem, what it must hold) for every mark, by file and line."""
    marks = []
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            for mark in re.findall(r"# expect: (.*?)(?= # expect: |$)", line):
                marks.append((f"{file}:{number}: ", [part.strip() for part in mark.split(" && ")]))
    return marks


def test_there_are_enough() -> None:
    assert len(CASES) >= 35


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_mistake_is_told(case: Path) -> None:
    main = case / "qxfleet.toml" if case.is_dir() else case
    files = [main, *sorted(case.glob("conf.d/*.toml"))] if case.is_dir() else [main]
    wanted = expected(files)
    assert wanted, "a wrong file must say what is wrong with it"
    with pytest.raises(ConfigError) as caught:
        load(main)
    problems = caught.value.problems
    assert len(problems) == len(wanted), "\n".join(problems)
    for (start, parts), problem in zip(wanted, problems, strict=True):
        assert problem.startswith(start), problem
        for part in parts:
            assert part in problem, problem
    assert all("\n" not in problem for problem in problems)


def test_a_password_is_never_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        load(FOLDER / "45-database-urls.toml")
    assert "secret" not in str(caught.value)
