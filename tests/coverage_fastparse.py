# ruff: noqa: T201
"""Line coverage of ``_fastparse.pyx`` by its tests: ``python tests/coverage_fastparse.py``; fails below 95 %.

Works on a copy of the tree in a temporary directory, built with line tracing, so that the normal build stays as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEAST = 95.0
NEEDED = ("qxfleet", "tests/__init__.py", "tests/oracle.py", "tests/fuzz_fastparse.py", "tests/test_fastparse.py",
          "tests/data", "setup.py", "pyproject.toml")  # fmt: skip


def measure(tree: Path) -> float:
    """Percentage of the lines that ran; the report goes to standard output."""
    for name in NEEDED:
        source, target = ROOT / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
        else:
            shutil.copy(source, target)
    (tree / "README.md").write_text("qxfleet\n", encoding="utf-8")
    (tree / ".coveragerc").write_text("[run]\nplugins = Cython.Coverage\ninclude = qxfleet/_fastparse.pyx\n", encoding="utf-8")
    env = {**os.environ, "QXFLEET_TRACE": "1", "COVERAGE_CORE": "ctrace", "PYTHONPATH": str(tree)}

    def python(*arguments: str) -> str:
        run = subprocess.run(
            [sys.executable, *arguments], cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
        if run.returncode:
            raise SystemExit(f"{' '.join(arguments)} failed:\n{run.stdout}")
        return run.stdout

    python("setup.py", "-q", "build_ext", "--inplace")
    python("-m", "coverage", "run", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_fastparse.py")
    report = python("-m", "coverage", "report", "--show-missing", "--precision=1")
    print(report)
    percent = re.search(r"_fastparse\.pyx.* ([0-9.]+)%", report)
    if percent is None:
        raise SystemExit("the report has no line for _fastparse.pyx: the build was not traced")
    return float(percent[1])


def main() -> int:
    """Run the command line; 0 when enough lines ran."""
    with tempfile.TemporaryDirectory(prefix="qxfleet-coverage-") as directory:
        percent = measure(Path(directory))
    print(f"_fastparse.pyx: {percent} % of lines, {LEAST} % wanted")
    return 0 if percent >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
