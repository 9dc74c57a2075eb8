"""hunnox: megatec behind the MEC0003 bridge (extra-dialects.md section 7)."""

from qxfleet.dialects.columns import told
from qxfleet.dialects.megatec import MEGATEC, RATING_QUERY, status_query, vendor_query
from qxfleet.dialects.spec import Claim, Field, Query, Reply, Span, Tier, Topic, Want

CHARGE = Query(
    b"BL\r", (Reply(b"BL", (Field("battery.charge", Span(2, None)),), length=(3, 5)),), Tier.FULL, Topic.DEVICE,
    (told(b"BL100", {"battery.charge": 100.0}, "extra-dialects.md section 18"),), "extra-dialects.md section 7",
)  # fmt: skip

HUNNOX = MEGATEC.overlay(
    "hunnox",
    "Hunnox",
    queries=(status_query(b"Q1\r"), RATING_QUERY, vendor_query(b"FW?\r"), CHARGE),
    claim=Claim(b"Q1\r", ((Want(b"FW?\r"), Want(b"BL\r")),)),
    accepts=(b"UPS NO ACK", b"ACK", b"(ACK", b"OK"),
    source="extra-dialects.md section 7",
)
"""On this bridge ``UPS No Ack`` after an order means that it was taken."""
