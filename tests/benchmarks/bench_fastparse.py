# ruff: noqa: T201
"""What reading one Q1 reply costs, compiled and plain: ``python tests/benchmarks/bench_fastparse.py``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).parents[2]))

from qxfleet.dialects.megatec import MEGATEC, STATUS_REPLY
from qxfleet.dialects.spec import Char, Convert, Reply, Token
from qxfleet.session.plans import plan_for, read
from tests.oracle import Oracle, arguments

QUERY = MEGATEC.queries[0]
FRAME = b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000"
BATCH = 1000
ROUNDS = 7


@dataclass(frozen=True)
class Row:
    """One line of the table: nanoseconds per frame, the best of several rounds."""

    what: str
    ns: float


def plain_parser(reply: Reply) -> Callable[[bytes], list[float | str | bool | None]]:
    """What one would write in Python without a compiler: table-driven, with the shape and numbers checked."""
    assert reply.tokens is not None and reply.bits is not None
    fewest, most = reply.tokens
    bits_word, width = reply.bits
    lead = reply.lead.decode()
    numbers = [(field.where.index, field.convert is Convert.POINTED) for field in reply.fields if isinstance(field.where, Token)]
    bits = [
        (field.where.index, dict(zip("01", field.choices or (False, True), strict=True)))
        for field in reply.fields
        if isinstance(field.where, Char)
    ]

    def parse(frame: bytes) -> list[float | str | bool | None]:
        text = frame.decode("ascii")
        if text[:1] != lead:
            raise ValueError("lead")
        words = text[1:].split()
        if not fewest <= len(words) <= most or len(words[bits_word]) < width:
            raise ValueError("short")
        values: list[float | str | bool | None] = []
        for index, pointed in numbers:
            word = words[index]
            if word.strip("-.@#"):
                if pointed and "." not in word:
                    raise ValueError("point")
                values.append(float(word))
            else:
                values.append(None)
        status = words[bits_word]
        values += [meaning.get(status[index]) for index, meaning in bits]
        return values

    return parse


def best(call: Callable[[], object], frames: int) -> float:
    """Nanoseconds per frame of the quickest round of about 20 ms."""
    started = time.perf_counter_ns()
    call()
    repeats = max(1, 20_000_000 // (time.perf_counter_ns() - started))
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter_ns()
        for _ in range(repeats):
            call()
        rounds.append(time.perf_counter_ns() - started)
    return min(rounds) / repeats / frames


def run() -> list[Row]:
    """Measure every way of reading the same frame; all of them must give the same values first."""
    plan = plan_for(STATUS_REPLY)
    positional, options = arguments(QUERY, STATUS_REPLY)
    oracle = Oracle(*positional, **options)
    plain = plain_parser(STATUS_REPLY)
    batch = [FRAME] * BATCH
    values = plan.parse(FRAME)
    named = {field.name: value for field, value in zip(STATUS_REPLY.fields, values, strict=True)}
    if not (values == plain(FRAME) == oracle.parse(FRAME) == plan.parse_many(batch)[0] and named == read(QUERY, FRAME)):
        raise AssertionError("the parsers disagree; their speed means nothing")
    return [
        Row("compiled, one frame a call", best(lambda: plan.parse(FRAME), 1)),
        Row(f"compiled, {BATCH} frames a call", best(lambda: plan.parse_many(batch), BATCH)),
        Row("compiled, to names and values (session)", best(lambda: read(QUERY, FRAME), 1)),
        Row("plain Python, table-driven", best(lambda: plain(FRAME), 1)),
        Row("plain Python, same rules (the tests' oracle)", best(lambda: oracle.parse(FRAME), 1)),
    ]


def main() -> None:
    """Print the table."""
    rows = run()
    for row in rows:
        print(f"{row.what:<46}{row.ns:>9,.0f} ns/frame{row.ns / rows[0].ns:>8.1f} ×")


if __name__ == "__main__":
    main()
