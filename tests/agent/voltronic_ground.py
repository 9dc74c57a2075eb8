"""Simulated voltronic units in this process, on virtual time, below a fleet with a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from qxfleet.agent.profiles import Step, applying
from qxfleet.config.profile import Profile
from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.model.options import UpsOptions
from qxfleet.testing.machine import Machine
from qxfleet.testing.unit import Fault
from qxfleet.testing.voltronic.models import model
from qxfleet.testing.voltronic.ups import VoltronicUps
from qxfleet.transports.inproc import InProcTransport
from tests.agent.ground import Ground

SETTING_LEADS = ("PE", "PD", "HEH", "HEL", "FRE", "PHV", "PLV", "PGF", "PSF", "BAT", "W0E", "PSK", "PBT", "PGR", "PPD", "PF")
"""How every request begins that sets something (voltronic.md sections 8 to 10)."""


class VoltronicGround(Ground):
    """Units by name, each of a protocol number; ``heard`` has their requests, those in ``dead`` say nothing."""

    def __init__(self, folder: Path, protocols: Mapping[str, str]) -> None:
        self.units = {
            name: VoltronicUps(VOLTRONIC, model(protocol), name=name, machine=Machine(model(protocol).ratings, noise=0))
            for name, protocol in protocols.items()
        }
        self.heard: dict[str, list[str]] = {name: [] for name in self.units}
        self.dead: set[str] = set()
        super().__init__(folder / "fleet.db", [self.options(name) for name in self.units], self._transport)

    def _transport(self, options: UpsOptions) -> InProcTransport:
        unit, heard = self.units[options.name], self.heard[options.name]

        def answer(request: bytes) -> bytes | None:
            heard.append(request.decode().rstrip("\r"))
            return None if options.name in self.dead else unit.answer(request, asyncio.get_running_loop().time())

        return InProcTransport(options.name, answer)

    @staticmethod
    def options(name: str) -> UpsOptions:
        return UpsOptions(name, f"/dev/{name}", dialect="voltronic")

    def set_requests(self, name: str) -> list[str]:
        """What was to set something."""
        return [each for each in self.heard[name] if each.startswith(SETTING_LEADS)]

    def refuse(self, name: str, request: str) -> None:
        """Let a unit refuse a request."""
        self.units[name].set_fault(Fault.REFUSE, request)

    def press(self, name: str, setting: str) -> None:
        """Set something at a unit's front panel."""
        assert self.units[name].press(setting)

    async def all_asked(self) -> None:
        """Wait until every unit has told all it can."""
        while not all(self.fleet.session(name).settled for name in self.units):
            await asyncio.sleep(1)

    def profile(self, settings: Mapping[str, str], *upses: str) -> Profile:
        return Profile("p", upses or tuple(self.units), settings)

    async def apply(self, profile: Profile, *, go_on: bool = False, stop_after: int = 0) -> list[Step]:
        """All steps; told to stop behind that many."""
        stop, steps = asyncio.Event(), []
        async for step in applying(self.fleet, profile, actor="test", go_on=go_on, stop=stop):
            steps.append(step)
            if len(steps) == stop_after:
                stop.set()
        return steps


def told(steps: list[Step]) -> list[tuple[str, str, str]]:
    """(ups, setting, outcome) of each step."""
    return [(step.drift.ups, step.drift.name, step.result.outcome.value) for step in steps]
