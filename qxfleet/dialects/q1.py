"""q1: megatec with nothing but the status query (megatec-family.md section 3)."""

from qxfleet.dialects.megatec import MEGATEC, status_query
from qxfleet.dialects.spec import Claim

Q1 = MEGATEC.overlay("q1", "Q1 only", queries=(status_query(b"Q1\r"),), claim=Claim(b"Q1\r"))
