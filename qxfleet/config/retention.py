"""``[retention]``: how long each tier of the history is kept."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf

from qxfleet.config.blocks import single
from qxfleet.config.findings import Findings, Source, toml_text
from qxfleet.config.forms import Keep
from qxfleet.config.schema import RetentionTable
from qxfleet.config.tables import read_table
from qxfleet.model.retention import KEPT, Retention

KEYS = ("raw", "minutes", "quarter_hours", "days")
"""From fine to coarse."""


def read_retention(sources: Sequence[Source], findings: Findings) -> Retention:
    """The rules of all files, the defaults where there is no table; mistakes go to ``findings``."""
    found = single(sources, "retention", findings)
    if found is None:
        return KEPT
    place, table = found
    read, broken = read_table(RetentionTable, table, place, findings)
    for finer, coarser in pairwise(KEYS):
        fine_s, coarse_s = getattr(read, finer), getattr(read, coarser)
        if not {finer, coarser} & broken and (fine_s or inf) > (coarse_s or inf):
            at = place.at(coarser if coarser in table else finer)
            findings.problem(
                at,
                f"{coarser} are kept for {Keep.text(coarse_s)} and {finer} for {Keep.text(fine_s)}: a coarser tier must be kept "
                f"as long as the finer one at least, write {coarser} = {toml_text(Keep.text(fine_s))}",
            )
    return Retention(read.raw, read.minutes, read.quarter_hours, read.days)
