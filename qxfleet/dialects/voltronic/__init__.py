"""voltronic: units by Voltronic Power, sold under many names (voltronic.md).

The tables by subject: :mod:`.status`, :mod:`.complaints` (warnings and faults), :mod:`.ratings`, :mod:`.measures`,
:mod:`.capabilities`, :mod:`.settings` (with their limits), :mod:`.orders`. Units that say PI98 are mecer's.
"""

from __future__ import annotations

from qxfleet.dialects.columns import protocols
from qxfleet.dialects.spec import AnswerStyle, Claim, Dialect, Want
from qxfleet.dialects.voltronic import capabilities, complaints, measures, orders, ratings, settings, status

VOLTRONIC = Dialect(
    name="voltronic",
    title="Voltronic Power",
    queries=(
        status.QGS, *ratings.IDENTITY, status.QMOD, status.QWS, measures.QBV, measures.QLDL, *measures.PHASES,
        capabilities.QFLAG, *settings.QUERIES, status.QFS,
    ),
    orders=orders.ORDERS,
    settings=orders.SETTINGS,
    device_settings=settings.SETTINGS,
    claim=Claim(
        b"QGS\r", ((Want(b"QGS\r"), Want(b"QPI\r", gives="ups.firmware.aux")),), needs=("input.voltage",),
        heard=(b"Q1\r", b"QGS\r"),
    ),
    answer=AnswerStyle.WORD,
    accepts=(b"(ACK",),
    static={"device.type": "ups"},
    meanings=status.MEANINGS,
    flags=(complaints.WARNINGS,),
    nuances=status.BEEPER,
    scales_battery=False,
    avr=(protocols("P00", "P08"),),
    avr_notice=status.AVR,
    source="voltronic.md",
)  # fmt: skip
