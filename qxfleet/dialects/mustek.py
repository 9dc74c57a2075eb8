"""mustek: megatec whose status query is ``QS`` (megatec-family.md section 3)."""

from qxfleet.dialects.megatec import MEGATEC, RATING_QUERY, status_query, vendor_query
from qxfleet.dialects.spec import Claim

MUSTEK = MEGATEC.overlay(
    "mustek",
    "Mustek",
    queries=(status_query(b"QS\r"), RATING_QUERY, vendor_query(b"I\r")),
    claim=Claim(b"QS\r"),
)
