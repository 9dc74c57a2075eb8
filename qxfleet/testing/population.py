"""A fleet of simulated UPSes as different from each other as real ones are."""

from __future__ import annotations

import random

from qxfleet.dialects.registry import dialect_named
from qxfleet.dialects.spec import AnswerStyle, Dialect
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps, Unknown
from qxfleet.testing.unit import Unit
from qxfleet.testing.voltronic import models as voltronic
from qxfleet.testing.voltronic.ups import VoltronicUps

MODELS: tuple[tuple[str, str, str, Ratings], ...] = (
    ("ACME UPS CO", "RT-3000", "VT12046Q", Ratings(va=3000, watts=2700, battery_v=72, line_interactive=False)),
    ("ACME UPS CO", "LI-1000", "VT11022Q", Ratings(va=1000, watts=600, battery_v=24, battery_ah=7)),
    ("Kestrel Power", "K1500", "03.21", Ratings(va=1500, watts=1050, battery_v=24)),
    ("Kestrel Power", "K6000 ON", "05.02", Ratings(va=6000, watts=5400, battery_v=192, line_interactive=False)),
    ("Nordlicht", "Heim 650", "V2.10", Ratings(va=650, watts=390, battery_v=12, battery_ah=7)),
    ("Ohmega", "", "V5.15C0503", Ratings(volts=220, va=2000, watts=1400, battery_v=48, battery_ah=7)),
    ("", "OL-1000", "0105B", Ratings(volts=240, va=1000, watts=900, battery_v=36, line_interactive=False)),
    ("Pylon Works", "PW3000R", "2.00", Ratings(va=3000, watts=2400, battery_v=48, battery_strings=2)),
)
"""Makers nobody knows; each model's maker, name, firmware and name plate."""

_USUAL = tuple(filter(None, map(dialect_named, ("mecer", "zinto", "megatec", "q1", "mustek", "megatec/old", "voltronic"))))
"""Spoken in turn where no dialect is named."""

_UNKNOWN = (Unknown.ECHO, Unknown.ECHO, Unknown.SILENCE, Unknown.N, Unknown.NAK)


def fleet(n: int, dialect: Dialect | None = None, *, seed: int = 0, noise: float = 1.0) -> list[Unit]:
    """``n`` UPSes named ``ups-01`` …, the same for the same ``seed``; without ``dialect`` the
    commonest seven in turn.

    Neighbours form a pair: the odd one in group ``feed-a``, the even one in ``feed-b``, both in ``rack1``, ``rack2`` …
    Voltronic units take turns in their protocol numbers. ``noise`` scales how much their values wander.
    """
    width = max(2, len(str(n)))
    spoken = (dialect,) if dialect else _USUAL
    return [
        _one(f"ups-{index + 1:0{width}d}", index, spoken[index % len(spoken)], index // len(spoken), seed, noise)
        for index in range(n)
    ]


def _one(name: str, index: int, dialect: Dialect, turn: int, seed: int, noise: float) -> Unit:
    """``turn``: how many of that dialect came before."""
    rng = random.Random(f"{seed}/{index + 1}")
    maker, model, firmware, ratings = rng.choice(MODELS)
    product = voltronic.MODELS[turn % len(voltronic.MODELS)] if dialect.name == "voltronic" else None
    if product:
        ratings = product.ratings
    feed, rack = "ab"[index % 2], index // 2 + 1
    groups = (f"feed-{feed}", f"rack{rack}")
    machine = Machine(
        ratings,
        seed=rng.getrandbits(32),
        age_years=round(rng.uniform(0, 6), 1),
        load_percent=round(rng.uniform(8, 70)),
        ambient_c=rng.uniform(20, 28),
        thermometer=rng.random() < 0.7,
        noise=noise,
    )
    spoken = f"{dialect.name} {product.protocol}" if product else dialect.name
    description = f"Rack {rack}, feed {feed.upper()}: simulated {ratings.va:g} VA, {spoken}"
    unit_seed = rng.getrandbits(32)
    if product:
        return VoltronicUps(
            dialect, product, name=name, seed=unit_seed, machine=machine, groups=groups, description=description
        )
    words = dialect.answer is AnswerStyle.WORD
    return SimulatedUps(
        dialect,
        name=name,
        seed=unit_seed,
        machine=machine,
        maker=maker,
        model=model,
        firmware=firmware,
        groups=groups,
        description=description,
        protocol=rng.choice(("PI98", None)),
        unknown=None if words else rng.choice(_UNKNOWN),
    )
