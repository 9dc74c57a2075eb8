"""``[[upsd]]``: how NUT servers are reached whose UPSes are members of the fleet."""

from __future__ import annotations

import ipaddress
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from qxfleet.config.blocks import blocks
from qxfleet.config.faces import credential, secret, unreadable
from qxfleet.config.findings import Findings, Place, Source
from qxfleet.config.schema import UpsdTable
from qxfleet.config.tables import read_table
from qxfleet.model.nut_port import SCHEME, NutPort, nut_port, nut_server
from qxfleet.model.options import UpsdAccess, UpsOptions


def with_servers(
    found: Sequence[tuple[UpsOptions, Place]], sources: Iterable[Source], folder: pathlib.Path, findings: Findings
) -> list[tuple[UpsOptions, Place]]:
    """The UPSes, those behind NUT servers with the way to theirs. Mistakes go to ``findings``."""
    servers = _servers(sources, folder, findings)
    used: dict[NutPort, Place] = {}
    members: list[tuple[UpsOptions, Place]] = []
    for options, place in found:
        if options.port.startswith(SCHEME):
            there = replace(nut_port(options.port), ups="")
            used.setdefault(there, place)
            access = servers[there][0] if there in servers else UpsdAccess(there.host, there.port)
            options = replace(options, upsd=access)
        members.append((options, place))
    for there, (access, place) in servers.items():
        if there not in used:
            findings.warning(place.at("server"), f"no UPS has a port on it, as in {there}/name")
        else:
            _warn(access, place.at("server"), findings)
    for there, place in used.items():
        if there not in servers:
            _warn(UpsdAccess(there.host, there.port), place.at("port"), findings)
    return members


def _servers(
    sources: Iterable[Source], folder: pathlib.Path, findings: Findings
) -> dict[NutPort, tuple[UpsdAccess, Place]]:
    servers: dict[NutPort, tuple[UpsdAccess, Place]] = {}
    for source in sources:
        for place, table in blocks(source, "upsd", "NUT server", findings):
            access = _access(table, place, folder, findings)
            if access is None:
                continue
            there = NutPort(access.host, access.port)
            if (before := servers.get(there)) is not None:
                findings.problem(place.at("server"), f"{there} is described at {before[1].spot} already: keep one of them")
            servers.setdefault(there, (access, place))
    return servers


def _access(table: Mapping[str, object], place: Place, folder: pathlib.Path, findings: Findings) -> UpsdAccess | None:
    read, broken = read_table(UpsdTable, table, place, findings)
    if not read.server:
        if "server" not in broken:
            findings.problem(place.at("server"), 'missing: every [[upsd]] needs one, as in server = "nas.example:3493"')
        return None
    files: dict[str, str] = {}
    for key in ("user_file", "password_file", "ca_file"):
        if written := getattr(read, key):
            file = credential(written, folder)
            files[key] = str(file)
            if problem := unreadable(file):
                findings.problem(place.at(key), problem)
            elif key == "password_file":
                secret(file, place.at(key), findings)
    for one, other in (("user_file", "password_file"), ("password_file", "user_file")):
        if one in files and other not in files and other not in broken:
            findings.problem(place.at(one), f"is of no use alone: write {other} too")
    wants_tls = bool(read.ca_file or read.pin)
    if wants_tls and "tls" in read.model_fields_set and not read.tls:
        findings.problem(place.at("tls"), f'{"pin" if read.pin else "ca_file"} belongs to TLS: write tls = true, or remove it')
    if read.pin and read.ca_file:
        findings.problem(place.at("pin"), "there is a ca_file too: a pinned certificate is trusted whoever signed it, keep one")
    server = nut_server(read.server)
    return UpsdAccess(
        server.host, server.port, files.get("user_file", ""), files.get("password_file", ""), read.tls or wants_tls,
        files.get("ca_file", ""), read.pin,
    )  # fmt: skip


def _warn(access: UpsdAccess, place: Place, findings: Findings) -> None:
    there = NutPort(access.host, access.port)
    if not access.user_file:
        findings.warning(place, f"{there} is read only, its UPSes can't be tested, ordered or cut: write user_file and "
                                "password_file in a [[upsd]] to steer them")  # fmt: skip
    if access.tls or _here(access.host):
        return
    also = ", and the password can be read by them" if access.user_file else ""
    findings.warning(place, f"{there} is read in clear text: who is on the way can make up what it says{also}; write ca_file "
                            "or pin in a [[upsd]]")  # fmt: skip


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
