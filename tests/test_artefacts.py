"""What leaves the house: wheel and source archive, built, opened, and used with the source tree absent."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "qxfleet").rglob("*")
    if path.suffix in (".py", ".html", ".css", ".js", ".svg", ".txt") and "__pycache__" not in path.parts
)


def build(source: Path, target: Path, what: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{what}", "--outdir", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (made,) = target.glob("*.whl" if what == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def source_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def wheel(source_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the unpacked source archive alone, so that the archive is known to be enough."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(source_archive) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return build(source, tmp_path_factory.mktemp("wheel"), "wheel")


def test_the_source_archive_is_complete(source_archive: Path) -> None:
    with tarfile.open(source_archive) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"qxfleet/_fastparse.pyx", "qxfleet/_fastparse.pyi", "qxfleet/py.typed", "setup.py", "pyproject.toml", "LICENSE",
            "README.md", "migrations/env.py", "migrations/script.py.mako", *OURS} <= names  # fmt: skip
    assert [name for name in names if name.startswith("migrations/versions/0001")]


def test_the_wheel_is_complete(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"qxfleet/_fastparse.pyi", "qxfleet/py.typed", "qxfleet/migrations/env.py", "qxfleet/migrations/script.py.mako",
            *OURS} <= names  # fmt: skip
    assert [name for name in names if name.startswith("qxfleet/_fastparse.") and name.endswith(".so")]
    revisions = {path.name for path in (ROOT / "migrations" / "versions").glob("0*.py")}
    assert revisions and {f"qxfleet/migrations/versions/{name}" for name in revisions} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/")) or name.endswith(".c")]


def test_the_wheel_works_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site), str(wheel)],
        check=True, timeout=120,
    )  # fmt: skip
    script = (
        "import qxfleet, qxfleet._fastparse as f\n"
        "from qxfleet.store.migrate import upgrade\n"
        f"assert qxfleet.__file__.startswith({str(site)!r}), qxfleet.__file__\n"
        f"assert f.__file__.startswith({str(site)!r}), f.__file__\n"
        f"print(upgrade('sqlite:///{tmp_path}/x.db'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.db").exists()


def test_a_missing_compiler_fails_the_build(tmp_path: Path, source_archive: Path) -> None:
    """No silent fallback: without a compiler there is no wheel."""
    with tarfile.open(source_archive) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path / "out"), str(source)],
        env={**os.environ, "CC": "/bin/false"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.whl"))
