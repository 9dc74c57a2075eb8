"""Revisions 0007 and fleet_0002: the table of packed minutes, and the view of minutes that reads it by SQL.

What a body is says :mod:`qxfleet.store.minutes`. The view is what it was: minutes of hours that are not packed yet come from
``reading_minute``, the others out of the bodies, bit by bit. Its last column is new: the hour, by which packed minutes are found.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")

VALUES = {
    "input_voltage": ("input.voltage", 10),
    "input_voltage_fault": ("input.voltage.fault", 10),
    "input_frequency": ("input.frequency", 10),
    "output_voltage": ("output.voltage", 10),
    "ups_load": ("ups.load", 10),
    "ups_temperature": ("ups.temperature", 10),
    "battery_voltage": ("battery.voltage", 100),
    "battery_charge": ("battery.charge", 10),
    "battery_runtime": ("battery.runtime", 1),
}
FLAGS = {
    16384: "ALARM", 1: "OL", 2: "OB", 64: "DISCHRG", 32: "CHRG", 4: "LB", 8: "HB", 1024: "OVER", 16: "RB",
    2048: "TRIM", 4096: "BOOST", 128: "BYPASS", 32768: "ECO", 512: "OFF", 256: "CAL", 8192: "FSD",
}  # fmt: skip

FUNCTION = """
CREATE FUNCTION packed_minute(body bytea, parts integer, part integer, minute integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT ({base} + ({some} >> (40 - {at} % 8 - {width}) & ((1::bigint << {width}) - 1)))::integer $$
"""
"""One number: 40 bits from the byte in which it begins, less what is before and behind it; of the first part, its base added."""


def function() -> str:
    """:data:`FUNCTION`, which the server writes into a query where it is called: it is one expression for that."""
    begin = "CASE part WHEN 0 THEN 0 ELSE get_byte(body, part - 1) END"
    width = f"(get_byte(body, part) - {begin})"
    at = f"(8 * (parts + 4) + 60 * {begin} + minute * {width})"
    some = f"('x' || rpad(encode(substring(body FROM {at} / 8 + 1 FOR 5), 'hex'), 10, '0'))::bit(40)::bigint"
    base = "('x' || encode(substring(body FROM parts + 1 FOR 4), 'hex'))::bit(32)::bigint - 2147483648"
    return FUNCTION.format(base=f"CASE part WHEN 0 THEN {base} ELSE 0 END", some=some, at=at, width=width)


def upgrade() -> None:
    """The table, and the view in place of the one there was."""
    postgres = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "packed_minutes",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.LargeBinary(), nullable=False),
        *(sa.Column(name, sa.LargeBinary()) for name in VALUES),
        sa.PrimaryKeyConstraint("device_id", "at", name="pk_packed_minutes"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_packed_minutes_device_id"),
    )
    if postgres:
        op.execute(function())
    op.execute("DROP VIEW reading_minute_v")
    op.execute(view(postgres=postgres))


PARTS = {"rows": 1, "status": 2, **dict.fromkeys(VALUES, 5)}


def numbers_of_postgres() -> str:
    """Packed minutes, one a row: each number of each body as ``<body>_<part>``, the first with its base added."""
    numbers = ", ".join(
        f"packed_minute(h.{body}, {count}, {part}, m.place) AS {body}_{part}"
        for body, count in PARTS.items() for part in range(count)
    )  # fmt: skip
    return f"SELECT h.device_id, h.at, m.place, {numbers} FROM packed_minutes h CROSS JOIN generate_series(0, 59) m(place)"


def numbers_of_sqlite() -> str:
    """The same, and minutes of open hours with ``place`` null.

    Both come out of one subquery as they are, and what makes numbers of them is written into the query that selects from the
    view: so SQLite reckons what is asked for only.
    """

    def byte(body: str, place: int | str) -> str:
        return f"instr(bytes, substr({body}_body, {place}, 1)) - 1"  # beyond the end 0

    ends, places, numbers = [], [], []
    for body, count in PARTS.items():
        base = " + ".join(f"(({byte(body, count + 1 + k)}) << {24 - 8 * k})" for k in range(4))
        ends.append(f"{base} - 2147483648 AS {body}_base")
        for part in range(count):
            ends.append(f"{byte(body, part + 1)} AS {body}_e{part}")
            begin = f"{body}_e{part - 1}" if part else "0"
            width, at = f"({body}_e{part} - {begin})", f"{body}_p{part}"
            places.append(f"{8 * (count + 4)} + 60 * {begin} + place * {width} AS {at}")
            few, many = (
                "(" + " + ".join(f"(({byte(body, f'{at} / 8 + {k + 1}')}) << {8 * (most - k - 1)})" for k in range(most))
                + f") >> ({8 * most} - {at} % 8 - {width}) & ((1 << {width}) - 1)" for most in (2, 5)
            )  # fmt: skip
            one = f"CASE WHEN {width} = 0 THEN 0 WHEN {width} <= 9 THEN {few} ELSE {many} END"
            numbers.append(f"{one} AS {body}_{part}" if part else f"{body}_base + {one} AS {body}_0")
    plain = [f"{value}_{part}" for value in VALUES for part in ("min", "mean", "max", "last", "count")]
    plain = ["rows", "minutes", "status_seen", "status_last", *plain]
    none = ["NULL AS "] * len(plain)
    minutes = (
        f"SELECT d.name AS ups, h.at + m.place * 60000000 AS at, h.at AS hour, m.place, c.bytes, "
        f"{', '.join(f'h.{body} AS {body}_body' for body in PARTS)}, {', '.join(map(str.__add__, none, plain))} "
        "FROM device d CROSS JOIN packed_minutes h ON h.device_id = d.id CROSS JOIN minute m CROSS JOIN bytes c UNION ALL "
        f"SELECT d.name, r.at, r.at - r.at % 3600000000, NULL, NULL, {', '.join(['NULL'] * len(PARTS))}, "
        f"{', '.join(f'r.{name}' for name in plain)} FROM device d CROSS JOIN reading_minute r ON r.device_id = d.id"
    )
    for layer in (ends, places, numbers):
        minutes = f"SELECT *, {', '.join(layer)} FROM ({minutes})"
    return minutes


def columns(at: str, packed_at: str, *, postgres: bool) -> list[tuple[str, str, str]]:
    """Name of each column after the first, what it is of a packed minute, and of one of an open hour."""

    def status(flags: str) -> str:
        return "trim(" + " || ".join(f"CASE WHEN {flags} & {bit} > 0 THEN '{n} ' ELSE '' END" for bit, n in FLAGS.items()) + ")"

    def steps(number: str, scale: int) -> str:
        return f"{number} / {scale}.0" if scale > 1 else number

    def time(at: str) -> str:
        return at if postgres else f"strftime('%Y-%m-%dT%H:%M:%fZ', {at} / 1000000.0, 'unixepoch')"

    def us(at: str) -> str:
        return f"(extract(epoch FROM {at}) * 1000000)::bigint" if postgres else at

    made = [
        ("time", time(packed_at), time(at)), ("at_us", us(packed_at), us(at)), ("readings", "rows_0", "rows"),
        ("minutes", "1", "minutes"), ("ups.status", status("(status_0 - status_1)"), status("status_last")),
        ("ups.status.seen", status("status_0"), status("status_seen")),
    ]  # fmt: skip
    for value, (name, scale) in VALUES.items():
        packed = {
            "mean": f"{value}_0", "min": f"({value}_0 - {value}_1)", "max": f"({value}_0 + {value}_2)",
            "last": f"({value}_0 - {value}_1 + {value}_3)",
        }  # fmt: skip
        for part, spelled in packed.items():
            plain = f"{value}_mean" if part == "mean" else f"coalesce({value}_{part}, {value}_mean)"
            known = f"CASE WHEN {value}_4 < rows_0 THEN {steps(spelled, scale)} END"
            made.append((name if part == "mean" else f"{name}.{part}", known, steps(plain, scale)))
    made += [
        (f"{name}.count", f"coalesce(rows_0 - {value}_4, 0)", f"coalesce({value}_count, rows)")
        for value, (name, _) in VALUES.items()
    ]
    if postgres:
        return [*made, ("hour", "at", "date_bin('1 hour', at, to_timestamp(0))")]
    return [*made, ("hour_us", "hour", "hour")]


def view(*, postgres: bool) -> str:
    """``reading_minute_v``."""
    if postgres:
        made = columns("at", "(at + place * interval '1 minute')", postgres=True)
        packed, still_open = (", ".join(f'{each[kind]} AS "{each[0]}"' for each in made) for kind in (1, 2))
        return (
            f"CREATE VIEW reading_minute_v AS SELECT d.name AS ups, {packed} FROM device d "
            f"JOIN ({numbers_of_postgres()}) h ON h.device_id = d.id WHERE rows_0 > 0 "
            f"UNION ALL SELECT d.name, {still_open} FROM reading_minute r JOIN device d ON d.id = r.device_id"
        )
    chosen = ", ".join(
        f'{packed} AS "{name}"' if packed == plain else f'CASE WHEN place IS NULL THEN {plain} ELSE {packed} END AS "{name}"'
        for name, packed, plain in columns("at", "at", postgres=False)
    )
    places = ", ".join(f"({minute})" for minute in range(60))
    return (
        f"CREATE VIEW reading_minute_v AS WITH minute(place) AS (VALUES {places}), "
        f"bytes(bytes) AS (VALUES (x'{bytes(range(256)).hex()}')) "
        f"SELECT ups, {chosen} FROM ({numbers_of_sqlite()}) WHERE place IS NULL OR rows_0 > 0"
    )
