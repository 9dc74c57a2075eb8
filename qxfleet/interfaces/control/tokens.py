"""Tokens of the JSON API, made and ended by whoever may speak to the control socket."""

from __future__ import annotations

from collections.abc import Mapping

from qxfleet.agent.agent import Agent
from qxfleet.errors import QxfleetError
from qxfleet.interfaces import shapes
from qxfleet.interfaces.control.asking import Stream, UnknownTarget, Verb
from qxfleet.interfaces.shapes import Document
from qxfleet.interfaces.tokens import Tokens


def verbs(agent: Agent) -> Mapping[str, Verb]:
    """``token-create``, ``token-list``, ``token-revoke``."""

    def part() -> Tokens:
        found = agent.part(Tokens)
        if found is None:
            raise QxfleetError("this agent was started without network faces")
        return found

    async def create(args: Document, actor: str) -> Document:
        """``expires_s`` from now on; the answer is the only place where the secret ever stands."""
        seconds = args.get("expires_s")
        expires_us = None if seconds is None else agent.clock.wall_us() + round(float(seconds) * 1e6)
        allow = args.get("allow")
        secret, made = await part().create(
            str(args["name"]), str(args["user"]), None if allow is None else [str(right) for right in allow], expires_us,
            actor=actor,
        )  # fmt: skip
        return {**shapes.token_document(made), "token": secret}

    async def listing(args: Document, actor: str) -> Document:
        return {"tokens": [shapes.token_document(each) for each in await part().all()]}

    async def revoke(args: Document, actor: str) -> Document:
        name = str(args["name"])
        if not await part().revoke(name, actor=actor):
            raise UnknownTarget(f"no token is named {name!r}; `qxfleet token list` shows them")
        return {"name": name, "revoked": True}

    return {"token-create": create, "token-list": listing, "token-revoke": revoke}


def streams(agent: Agent) -> Mapping[str, Stream]:
    """None."""
    return {}
