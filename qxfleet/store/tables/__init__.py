"""All tables, by noun. The migrations under ``migrations/versions`` make these tables; a test compares the two."""

from qxfleet.store.tables.audit import audit, token
from qxfleet.store.tables.base import SCHEMA, SCHEMA_TABLE, Microseconds, meta, metadata
from qxfleet.store.tables.batteries import battery, battery_in_ups, battery_month, discharge, discharge_point
from qxfleet.store.tables.events import event, order_log
from qxfleet.store.tables.maintenance import maintenance
from qxfleet.store.tables.outbox import outbox, outbox_readings
from qxfleet.store.tables.plans import battery_test, battery_test_point
from qxfleet.store.tables.readings import (
    ROLLED,
    device,
    device_era,
    extra_rollup,
    packed_minutes,
    reading,
    reading_day,
    reading_minute,
    reading_quarter,
)
from qxfleet.store.tables.shutdown import shutdown_arming, shutdown_run, shutdown_step
from qxfleet.store.tables.waves import test_wave, test_wave_member

__all__ = [
    "ROLLED",
    "SCHEMA",
    "SCHEMA_TABLE",
    "Microseconds",
    "audit",
    "battery",
    "battery_in_ups",
    "battery_month",
    "battery_test",
    "battery_test_point",
    "device",
    "device_era",
    "discharge",
    "discharge_point",
    "event",
    "extra_rollup",
    "maintenance",
    "meta",
    "metadata",
    "order_log",
    "outbox",
    "outbox_readings",
    "packed_minutes",
    "reading",
    "reading_day",
    "reading_minute",
    "reading_quarter",
    "shutdown_arming",
    "shutdown_run",
    "shutdown_step",
    "test_wave",
    "test_wave_member",
    "token",
]
