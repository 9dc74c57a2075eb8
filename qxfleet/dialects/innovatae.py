"""innovatae: megatec with a short vendor reply, Ippon Innova TAE (extra-dialects.md section 10)."""

from qxfleet.dialects.columns import told
from qxfleet.dialects.megatec import MEGATEC, RATING_QUERY, status_query
from qxfleet.dialects.spec import Claim, Convert, Field, Query, Reply, Span, Tier, Topic, Want

FILLER = b"#222222222222222"
"""What stands in the place of maker and model."""

VENDOR = Query(
    b"I\r", (Reply(b"#", (Field("ups.firmware", Span(28, 36), Convert.TEXT),), length=(36, 40), lenient=True),),
    Tier.ONCE, Topic.VENDOR,
    (told(b"#222222222222222222222222222R1.00.48  ", {"ups.firmware": "R1.00.48"}, "extra-dialects.md section 18"),),
    "extra-dialects.md section 10",
)  # fmt: skip

INNOVATAE = MEGATEC.overlay(
    "innovatae",
    "Innova TAE",
    queries=(status_query(b"Q1\r"), RATING_QUERY, VENDOR),
    claim=Claim(b"Q1\r", ((Want(b"I\r", replies=(FILLER,)),),)),
    source="extra-dialects.md section 10",
)
