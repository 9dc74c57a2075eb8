"""megatec/old: megatec whose status query is ``D`` (megatec-family.md section 3)."""

from qxfleet.dialects.megatec import MEGATEC, RATING_QUERY, status_query, vendor_query
from qxfleet.dialects.spec import Claim

MEGATEC_OLD = MEGATEC.overlay(
    "megatec/old",
    "Megatec, older units",
    queries=(status_query(b"D\r"), RATING_QUERY, vendor_query(b"I\r")),
    claim=Claim(b"D\r"),
)
