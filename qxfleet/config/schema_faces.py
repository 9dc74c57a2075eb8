"""The tables of the network faces and their users, and their keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from qxfleet.config.access import InstantCommand, Listen, ListenAddress, PasswordHash, Right
from qxfleet.config.forms import Name
from qxfleet.config.schema import NEEDED, Table, _key

NUT_PORT, HTTP_PORT, METRICS_PORT = 3493, 8420, 9199

Addresses = Annotated[tuple[Annotated[Listen, ListenAddress()], ...], Field(strict=False)]

_ADDRESSES = f"list of {ListenAddress.words}"


class HttpTable(Table):
    """Web page, JSON API and metrics of the fleet; off where the table is absent."""

    listen: Addresses = _key(
        (Listen("127.0.0.1", HTTP_PORT),), "where it listens", shown=f'["127.0.0.1:{HTTP_PORT}"]', form=_ADDRESSES
    )
    cert: str = _key("", "HTTPS: file of the certificate and its chain (PEM); without it plain HTTP", shown="none")
    key: str = _key("", "HTTPS: file of the private key (PEM)", shown="in the file of cert")


class NutTable(Table):
    """The NUT network protocol, for upsc, upsmon and every other NUT client; off where the table is absent."""

    listen: Addresses = _key(
        (Listen("127.0.0.1", NUT_PORT),), "where it listens", shown=f'["127.0.0.1:{NUT_PORT}"]', form=_ADDRESSES
    )
    cert: str = _key("", "TLS: file of the certificate and its chain (PEM); makes STARTTLS possible", shown="none")
    key: str = _key("", "TLS: file of the private key (PEM)", shown="in the file of cert")


class MetricsTable(Table):
    """nut_exporter's own endpoint, one UPS per request; off where the table is absent."""

    listen: Addresses = _key(
        (Listen("127.0.0.1", METRICS_PORT),), "where it listens", shown=f'["127.0.0.1:{METRICS_PORT}"]', form=_ADDRESSES
    )


class UserTable(Table):
    """One who may log in to the network faces; as often as there are users, in any file."""

    name: Annotated[str, Name()] = _key("", "what the user logs in with", shown=NEEDED)
    password_file: str = _key(
        "", "file whose only line is the password, or its hash; $CREDENTIALS_DIRECTORY in it is the service manager's",
        shown="none", form="path, counted from the main file's folder",
    )  # fmt: skip
    password_hash: Annotated[str, PasswordHash()] = _key("", "the password's hash, instead of a file", shown="none")
    allow: Annotated[tuple[Right, ...], Field(strict=False)] = _key(
        ("read",), "what the user may do", shown='["read"]',
        form='list of "read", "command", "set", "fsd", "test" and "shutdown"',
    )  # fmt: skip
    instcmds: Annotated[tuple[Annotated[str, InstantCommand()], ...], Field(strict=False)] = _key(
        (), "the only instant commands that allow = [\"command\"] means", shown="all", form="list of names of instant commands"
    )
    upsmon: Literal["primary", "secondary"] | None = _key(
        None, "the user is NUT's upsmon and may log in to UPSes; a primary may force their shutdown too", shown="none"
    )
