"""The service manager's files are sound, and the agent they start is shut in."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

UNITS = Path(__file__).parents[1] / "contrib" / "systemd"


def analyzed(*arguments: str) -> str:
    program = shutil.which("systemd-analyze")
    assert program is not None, "apt-get install systemd"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    """With the program put where this machine has one, and without the pages that are not installed here."""
    for unit in UNITS.glob("*.[sp]*"):
        if unit.suffix not in (".service", ".path"):
            continue
        text = re.sub(r"(?m)^Documentation=.*\n", "", unit.read_text()).replace("/usr/bin/qxfleet", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    for unit in tmp_path.iterdir():
        assert analyzed("verify", "--man=no", str(unit)) == "", unit.name


def test_the_agent_is_shut_in() -> None:
    exposure = re.search(r"Overall exposure level for qxfleet\.service: ([\d.]+)", analyzed(
        "security", "--offline=true", str(UNITS / "qxfleet.service")
    ))  # fmt: skip
    assert exposure is not None and float(exposure[1]) < 2.5
