"""Minutes are packed, a row for each UPS and hour; what is there is packed by and by, while the agent runs."""

from __future__ import annotations

from qxfleet.migrations import packed_minutes

revision = "fleet_0002"
down_revision = "fleet_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Table ``packed_minutes``, and view ``reading_minute_v`` over it."""
    packed_minutes.upgrade()
