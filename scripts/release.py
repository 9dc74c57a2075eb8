"""What goes out with a release: source archive and wheel, a lock of what they need with hashes, and a bill of materials.

``python scripts/release.py dist``. Asks pip what it would install for ``.[all]`` on this machine, so it needs an index.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def resolved(extras: str = "all") -> list[dict[str, Any]]:
    """What pip would install, one entry a distribution (pip's installation report, version 1)."""
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--dry-run", "--ignore-installed",
               "--report", "-", f"{ROOT}[{extras}]"]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["install"]
    return sorted(found, key=lambda each: str(each["metadata"]["name"]).lower())


def hash_of(entry: dict[str, Any]) -> str:
    """The archive's SHA-256; empty for our own folder, which has none."""
    return str(entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", ""))


def lock(entries: list[dict[str, Any]]) -> str:
    """Requirements for ``pip install --require-hashes``, without qxfleet itself."""
    lines = ["# Made by `make release`: what `qxfleet[all]` was released with, for pip install --require-hashes -r"]
    for each in entries:
        if digest := hash_of(each):
            lines.append(f"{each['metadata']['name']}=={each['metadata']['version']} --hash=sha256:{digest}")
    return "\n".join(lines) + "\n"


def bill_of_materials(entries: list[dict[str, Any]], made: datetime) -> dict[str, Any]:
    """CycloneDX 1.5 (ECMA-424): qxfleet, and everything it needs with version, hash and licence."""
    parts, own = [], {"type": "application", "name": "qxfleet"}
    for each in entries:
        meta = each["metadata"]
        name, version = str(meta["name"]), str(meta["version"])
        reference = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
        part: dict[str, Any] = {"type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference}
        if digest := hash_of(each):
            part["hashes"] = [{"alg": "SHA-256", "content": digest}]
        if licence := meta.get("license_expression") or meta.get("license"):
            part["licenses"] = [{"license": {"name": str(licence).splitlines()[0][:100]}}]
        if name == "qxfleet":
            own = {**part, "type": "application"}
        else:
            parts.append(part)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{uuid.uuid4()}", "version": 1,
        "metadata": {"timestamp": made.isoformat(timespec="seconds"), "component": own}, "components": parts,
    }  # fmt: skip


def main(folder: Path) -> None:
    """Write everything into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True)
    entries = resolved()
    (folder / "requirements.lock").write_text(lock(entries))
    made = bill_of_materials(entries, datetime.now(UTC))
    (folder / "qxfleet.cdx.json").write_text(json.dumps(made, indent=2) + "\n")
    sys.stdout.write(f"{folder}: {', '.join(sorted(each.name for each in folder.iterdir()))}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist"))
