"""``upsd.users``: each user becomes a ``[[user]]`` block, the password its hash. Facts: the manual page upsd.users(5)."""

from __future__ import annotations

import pathlib
import re
from dataclasses import dataclass

from qxfleet.config.findings import Place, Source
from qxfleet.config.nut.complaints import Complaints, Note
from qxfleet.config.nut.syntax import Entry, Section, sections
from qxfleet.config.schema_faces import UserTable
from qxfleet.config.tables import read_table
from qxfleet.model.password import hash_password

ROLES = {"primary": "primary", "master": "primary", "secondary": "secondary", "slave": "secondary"}
"""``master`` and ``slave`` are the words before NUT 2.8."""

ACTIONS = {"set": "set", "fsd": "fsd"}


@dataclass(frozen=True, slots=True)
class ImportedUser:
    """One user carried over: the keys of the ``[[user]]`` block."""

    table: dict[str, object]
    notes: tuple[Note, ...]


def import_users(text: str, name: str) -> tuple[list[ImportedUser], list[Note]]:
    """The users of an ``upsd.users``, and notes on those left out; ``name`` is the file's for messages."""
    above, found = sections(text)
    loose = [Note(f"{name}:{entry.line}", "", f"{entry.key}: not carried over, it stands above every [user]") for entry in above]
    users: list[ImportedUser] = []
    for section in found:
        user, problem = _import(section, name)
        if user is None:
            loose.append(Note(f"{name}:{section.line}", section.name, problem))
        else:
            users.append(user)
    return users, loose


def _import(section: Section, name: str) -> tuple[ImportedUser | None, str]:
    table: dict[str, object] = {"name": re.sub(r"[^A-Za-z0-9._-]+", "-", section.name).strip("-")[:64] or "user"}
    notes: list[Note] = []
    allow, commands = ["read"], list[str]()
    for entry in section.entries:
        if problem := _take(entry, table, allow, commands):
            notes.append(Note(f"{name}:{entry.line}", section.name, f"{entry.key}: {problem}"))
    if "password_hash" not in table:
        return None, "no password: left out"
    table["allow"] = list(dict.fromkeys(allow))
    if commands and "all" not in (command.lower() for command in commands):
        table["instcmds"] = commands
    complaints = Complaints()
    read_table(UserTable, table, Place(Source(name, pathlib.Path(name), {"user": [table]}, {}), ("user", 0)), complaints)
    for key, text in complaints.keys:
        if key.partition(".")[0] in ("name", "password_hash"):
            return None, f"left out, {key}: {text}"
        table.pop(key.partition(".")[0], None)
        notes.append(Note(f"{name}:{section.line}", section.name, f"{key}: not carried over, {text}"))
    return ImportedUser(table, tuple(notes)), ""


def _take(entry: Entry, table: dict[str, object], allow: list[str], commands: list[str]) -> str:
    """Take one option in; why not, if not. ``actions`` and ``instcmds`` may stand more than once."""
    match entry.key.lower():
        case "password" if entry.value:
            table["password_hash"] = hash_password(entry.value)
        case "actions":
            unknown = [word for word in entry.words if word.lower() not in ACTIONS]
            allow += [ACTIONS[word.lower()] for word in entry.words if word.lower() in ACTIONS]
            return f"{' '.join(unknown)}: not carried over, NUT knows SET and FSD" if unknown else ""
        case "instcmds":
            allow.append("command")
            commands += entry.words
        case "upsmon" if (entry.value or "").lower() in ROLES:
            table["upsmon"] = ROLES[(entry.value or "").lower()]
        case "allowfrom":
            return "not carried over, neither NUT nor qxfleet looks at it: [nut] listen and the firewall decide who may connect"
        case _:
            return "not carried over, qxfleet has nothing like it"
    return ""
