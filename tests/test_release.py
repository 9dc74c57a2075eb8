"""What a release promises of its dependencies: bounds on both sides, a lock with hashes, a bill of materials."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    lines = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    lines += [each for extra in extras for each in extra]
    return [each for each in map(Requirement, lines) if each.name != "qxfleet"]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_dependency_has_an_upper_bound_that_what_is_here_keeps(requirement: Requirement) -> None:
    assert any(each.operator in ("<", "<=", "==", "~=") for each in requirement.specifier), "no upper bound"
    if requirement.marker is None or requirement.marker.evaluate():
        try:
            here = version(requirement.name)
        except PackageNotFoundError:
            return
        assert here in requirement.specifier


def script() -> Any:
    """``scripts/release.py``."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import release
    finally:
        sys.path.pop(0)
    return release


@pytest.mark.skipif(os.environ.get("QXFLEET_SOAK") != "1", reason="builds, and asks an index of packages: make soak")
@pytest.mark.timeout(1800)
def test_a_release_is_whole(tmp_path: Path) -> None:
    script().main(tmp_path)
    names = sorted(each.name for each in tmp_path.iterdir())
    assert [name for name in names if name.endswith((".tar.gz", ".whl"))] == [
        name for name in names if name not in ("qxfleet.cdx.json", "requirements.lock")
    ]
    assert len(names) == 4, names
    lines = (tmp_path / "requirements.lock").read_text().splitlines()[1:]
    locked = {canonicalize_name(line.split("==")[0]): line for line in lines}
    assert all(re.fullmatch(r"[\w.-]+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (project["optional-dependencies"][name] for name in ("postgres", "tui", "web", "plot", "parquet"))
    wanted = [*project["dependencies"], *(each for extra in extras for each in extra)]
    assert {canonicalize_name(Requirement(each).name) for each in wanted} <= locked.keys()
    bill = json.loads((tmp_path / "qxfleet.cdx.json").read_text())
    assert {canonicalize_name(part["name"]) for part in bill["components"]} == locked.keys()
    for part in bill["components"]:
        assert part["hashes"][0]["content"] in locked[canonicalize_name(part["name"])]
    assert bill["metadata"]["component"]["name"] == "qxfleet"


def test_a_lock_and_a_bill_of_materials_say_what_pip_would_install() -> None:
    release = script()
    entries: list[dict[str, Any]] = [
        {"metadata": {"name": "Some_Thing", "version": "1.2", "license": "MIT\nmore"},
         "download_info": {"archive_info": {"hashes": {"sha256": "ab" * 32}}}},
        {"metadata": {"name": "qxfleet", "version": "0.1.0", "license_expression": "MIT"}, "download_info": {"dir_info": {}}},
    ]  # fmt: skip
    assert release.lock(entries).splitlines()[1:] == [f"Some_Thing==1.2 --hash=sha256:{'ab' * 32}"]
    bill = release.bill_of_materials(entries, datetime(2026, 1, 1, tzinfo=UTC))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["name"] == "qxfleet"
    (part,) = bill["components"]
    assert part["purl"] == "pkg:pypi/some-thing@1.2"
    assert part["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert part["licenses"] == [{"license": {"name": "MIT"}}]
