"""Man pages and completions say what the command line says now, and are sound."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_they_are_those_of_this_command_line(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "scripts" / "manual.py"))["write"](tmp_path)
    made = {file.relative_to(tmp_path): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    shipped = {file.relative_to(ROOT / "share"): file.read_text() for file in (ROOT / "share").rglob("*") if file.is_file()}
    assert made == shipped, "make manual"


def test_the_pages_format_without_a_warning() -> None:
    groff = shutil.which("groff")
    assert groff is not None, "apt-get install groff-base"
    for page in (ROOT / "share" / "man").rglob("*.[15]"):
        done = subprocess.run([groff, "-man", "-Tutf8", "-ww", str(page)], capture_output=True, text=True, check=True)
        assert done.stderr == "", page.name
