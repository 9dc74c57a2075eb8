"""zinto: megatec whose vendor query is ``FW?`` (megatec-family.md sections 3 and 6.1)."""

from qxfleet.dialects.megatec import MEGATEC, RATING_QUERY, status_query, vendor_query
from qxfleet.dialects.spec import Claim, Want

ZINTO = MEGATEC.overlay(
    "zinto",
    "Zinto",
    queries=(status_query(b"Q1\r"), RATING_QUERY, vendor_query(b"FW?\r")),
    claim=Claim(b"Q1\r", ((Want(b"FW?\r"), Want(b"I\r", answered=False)),)),
)
