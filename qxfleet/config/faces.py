"""``[nut]``, ``[http]``, ``[metrics]`` and ``[[user]]``: where the agent listens on the network, and to whom."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qxfleet.config.access import Listen, User
from qxfleet.config.blocks import blocks, single
from qxfleet.config.findings import Findings, Place, Source, toml_text
from qxfleet.config.schema import Table
from qxfleet.config.schema_faces import HttpTable, MetricsTable, NutTable, UserTable
from qxfleet.config.tables import read_table
from qxfleet.model import password

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Where the service manager puts what LoadCredential= names (systemd.exec(5))."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a certificate and its key; ``key`` may be the same file."""

    cert: pathlib.Path
    key: pathlib.Path


@dataclass(frozen=True, slots=True)
class Face:
    """One network face: where it listens, and its TLS files if it has any."""

    listen: tuple[Listen, ...]
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Faces:
    """The network faces that are on, and their users."""

    nut: Face | None = None
    http: Face | None = None
    metrics: Face | None = None
    users: tuple[User, ...] = ()


NO_FACES = Faces()


def read_faces(sources: Sequence[Source], folder: pathlib.Path, findings: Findings) -> Faces:
    """The faces and users of all files; mistakes go to ``findings``. ``folder`` is what relative paths count from."""
    users = _users(sources, folder, findings)
    taken: dict[Listen, Place] = {}
    faces = {
        name: _face(model, name, sources, folder, taken, findings)
        for name, model in (("nut", NutTable), ("http", HttpTable), ("metrics", MetricsTable))
    }
    for name, found in faces.items():
        if found is not None:
            _warn(name, *found, users, findings)
    nut, http, metrics = (found[0] if found else None for found in faces.values())
    return Faces(nut, http, metrics, users)


def _face(
    model: type[Table], name: str, sources: Sequence[Source], folder: pathlib.Path, taken: dict[Listen, Place], findings: Findings
) -> tuple[Face, Place] | None:
    found = single(sources, name, findings)
    if found is None:
        return None
    place, table = found
    read = read_table(model, table, place, findings)[0]
    listen: tuple[Listen, ...] = getattr(read, "listen")  # noqa: B009 - every face's table has it
    if not listen:
        findings.problem(place.at("listen"), f"expected an address at least: remove [{name}] to switch it off")
    for index, each in enumerate(listen):
        here = place.at("listen", index)
        before = taken.setdefault(each, here)
        if before is not here:
            findings.problem(here, f'"{each}" is taken at {before.spot} already: every face needs a port of its own')
    return Face(listen, _tls(getattr(read, "cert", ""), getattr(read, "key", ""), place, folder, findings)), place


def _tls(cert: str, key: str, place: Place, folder: pathlib.Path, findings: Findings) -> Tls | None:
    if not cert:
        if key:
            findings.problem(place.at("key"), "a key without a certificate: write cert too")
        return None
    files = (credential(cert, folder), credential(key or cert, folder))
    for name, file in zip(("cert", "key"), files, strict=True):
        if problem := unreadable(file):
            findings.problem(place.at(name if name in ("cert",) or key else "cert"), problem)
            return None
    return Tls(*files)


def _warn(name: str, face: Face, place: Place, users: Sequence[User], findings: Findings) -> None:
    """A face that others than this machine can reach, without what should guard it."""
    abroad = [str(listen) for listen in face.listen if not listen.loopback]
    if not abroad:
        return
    at = place.at("listen")
    if name != "metrics" and not users:
        findings.warning(at, f"{', '.join(abroad)} is reached from the network, and no [[user]] is there: everybody can read")
    if name != "metrics" and users and face.tls is None:
        findings.warning(
            at, f"{', '.join(abroad)} is reached from the network, and passwords cross it in clear text: write cert and key"
        )


def _users(sources: Iterable[Source], folder: pathlib.Path, findings: Findings) -> tuple[User, ...]:
    users: list[User] = []
    names: dict[str, Place] = {}
    for source in sources:
        for place, table in blocks(source, "user", "user", findings):
            if isinstance(name := table.get("name"), str) and (before := names.setdefault(name, place)) is not place:
                findings.problem(place.at("name"), f'"{name}" is the name of the user at {before.at("name").spot} already: '
                                                   "every user needs one of their own")  # fmt: skip
            user = _user(table, place, folder, findings)
            if user is not None:
                users.append(user)
    return tuple(users)


def _user(table: Mapping[str, object], place: Place, folder: pathlib.Path, findings: Findings) -> User | None:
    before = len(findings.problems)
    read, broken = read_table(UserTable, table, place, findings)
    if "name" not in broken and not read.name:
        findings.problem(place.at("name"), 'missing: every [[user]] needs one, as in name = "operator"')
    if read.password_file and (read.password_hash or "password_hash" in broken):
        findings.problem(place.at("password_hash"), "there is a password_file too: keep one of them")
    if read.instcmds and "command" not in read.allow and "allow" not in broken:
        findings.problem(place.at("instcmds"), 'the user may give no commands: write allow = ["read", "command"]')
    kept = read.password_hash
    if read.password_file:
        kept = secret(credential(read.password_file, folder), place.at("password_file"), findings)
    elif not kept and not broken & {"password_file", "password_hash"}:
        findings.problem(place, "a password is missing: write password_file, or password_hash made by `qxfleet user hash`")
    if len(findings.problems) > before:
        return None
    return User(read.name, kept, frozenset(read.allow), read.instcmds, read.upsmon)


def secret(file: pathlib.Path, place: Place, findings: Findings) -> str:
    """The only line of a password's file."""
    if problem := unreadable(file):
        findings.problem(place, problem)
        return ""
    try:
        lines = file.read_text("utf-8").strip("\r\n").splitlines()
    except UnicodeDecodeError:
        findings.problem(place, f"{file} is not UTF-8 text: write the password on its only line")
        return ""
    if len(lines) != 1 or not lines[0].strip():
        findings.problem(place, f"{file} has {len(lines) or 'no'} lines: the password stands on its only line")
        return ""
    if lines[0].startswith(password.PREFIX):
        try:
            password.check_hash(lines[0])
        except ValueError as error:
            findings.problem(place, f"{file}: {error}")
    if file.stat().st_mode & stat.S_IROTH:
        findings.warning(place, f"everybody on this machine can read {file}: chmod o= {file}")
    return lines[0]


def credential(text: str, folder: pathlib.Path) -> pathlib.Path:
    """A file as it is written, counted from the main file's folder, or among the service manager's credentials."""
    return folder / text.replace(f"${CREDENTIALS}", os.environ.get(CREDENTIALS, f"${CREDENTIALS}"))


def unreadable(file: pathlib.Path) -> str | None:
    """What keeps a file from being read, in words."""
    try:
        with file.open("rb"):
            return None
    except FileNotFoundError:
        return f"no such file, {toml_text(str(file), 200)}: write it, or correct the path"
    except PermissionError:
        return f"no permission to read {file}: run as a user that may, or change its owner or mode"
    except OSError as error:
        return f"{file} can't be read, {error.strerror or error}: correct the path"
