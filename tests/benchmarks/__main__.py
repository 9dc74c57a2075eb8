# ruff: noqa: T201
"""Run the benchmarks one after the other and show their tables: ``python -m tests.benchmarks [NAME]...``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main(wanted: list[str]) -> int:
    """Each ``bench_NAME.py`` as a process of its own, so that none inherits another's memory; 1 if any failed."""
    found = {file.stem.removeprefix("bench_"): file for file in sorted(HERE.glob("bench_*.py"))}
    if unknown := [name for name in wanted if name not in found]:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(found)}", file=sys.stderr)
        return 2
    failed: list[str] = []
    for name, file in found.items():
        if wanted and name not in wanted:
            continue
        print(f"\n== {name}", flush=True)
        began_s = time.monotonic()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if subprocess.run([sys.executable, str(file)], cwd=ROOT, env=environment, check=False).returncode:
            failed.append(name)
        print(f"({time.monotonic() - began_s:.0f} s)", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


sys.exit(main(sys.argv[1:]))
