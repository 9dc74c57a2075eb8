# ruff: noqa: T201
"""Compiled parser against the plain one, on mutated captures: ``python tests/fuzz_fastparse.py --frames N --seed S``.

Exits 1 with the shortest frame found at the first difference. The same seed and number of jobs give the same frames.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).parents[1]))

from qxfleet._fastparse import BIT, CODE, FLAG, MARK, NUMBER, POINTED, TEXT, UNSIGNED, Framer, Plan
from qxfleet.dialects.registry import DIALECTS
from qxfleet.session.plans import plan_for
from tests.oracle import Oracle, arguments, cut

CAPTURES = Path(__file__).parent / "data" / "captures.jsonl"
BATCH = 500

EXTRA: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("bits by column", (b"(", 3, 80, [(BIT, -1, n, -1, 1.0, "off", "on", n == 40) for n in range(38, 46)]), {}),
    (
        "numbers by column, scaled",
        (b"(", 10, 80, [(NUMBER, -1, 1, 6, 0.1, None, None, False), (POINTED, -1, 7, 12, 60.0, None, None, False),
                        (NUMBER, -1, 19, 22, 0.001, None, None, False), (TEXT, -1, 28, -1, 1.0, None, None, False)]),
        {},
    ),
    ("no lead", (b"", 0, 200, [(NUMBER, 0, 0, -1, 1.0, None, None, False), (TEXT, 1, 0, -1, 1.0, None, None, False)]),
     {"tokens": (0, 64)}),
    ("long lead, strict text", (b"#22", 4, 64, [(TEXT, 0, 0, -1, 1.0, None, None, False), (TEXT, -1, 3, 9, 1.0, 0, 1, False)]),
     {"tokens": (1, 6), "digits": (3, 3)}),
    ("columns with a shape",
     (b"(", 2, 80, [(CODE, -1, 1, 3, 1.0, None, None, False), (NUMBER, -1, 4, -1, 60.0, None, None, False)]),
     {"blanks": (3,), "lenient": True}),
    ("bits in front", (b"(", 4, 90, [(BIT, 0, n, -1, 1.0, False, True, n < 2) for n in range(3)]
      + [(BIT, 1, 0, -1, 1.0, False, True, False), (NUMBER, 2, 0, -1, 10.0, None, None, False)]),
     {"tokens": (1, 20), "bits": (0, 3)}),
    ("commas", (b"", 3, 80, [(CODE, n, 0, -1, 1.0, None, None, False) for n in range(2)]
      + [(NUMBER, n, 0, -1, 1.0, None, None, False) for n in range(2, 6)]),
     {"tokens": (5, 6), "separator": ","}),
    ("words of bytes", (b"#", 4, 80, [(UNSIGNED, n, 0, -1, 1.0, None, None, False) for n in range(3)]
      + [(UNSIGNED, 3, 5, 6, 1.0, None, None, False), (FLAG, 3, 7, 7, 1.0, False, True, True)]),
     {"widths": (2, 1, 3, 1)}),
    ("bytes and letters in columns",
     (b"(", 12, 40, [(UNSIGNED, -1, 1, 3, 0.1, None, None, False), (UNSIGNED, -1, 5, 9, 1.0, None, None, False),
                     (MARK, -1, 9, -1, 1.0, None, "test", False, b"EIJ"), (MARK, -1, 9, -1, 1.0, False, True, True, b"A")]),
     {}),
)  # fmt: skip
"""Layouts that use what no present table uses."""

OF_BYTES = (
    b"#l\x01 5 l\x01Q \t", b"#(\0(\3 (\4 p\x01i \x89", b"#(\1 ( \x12\xd0\x02 (", b"FOR,750,120,120,20.0,27.6", b"FOR,,120,,20.0",
    b"(\x01\xf4\0\0\0\0\x05F\x04\x1a\0\x10\0\0\0\x17\0\0\0\0", b"(\0\x0d\x04\x0d\x28\0\0\0AIM", b"(12345678AEBFN",
)  # fmt: skip
"""What the captures do not have: words of bytes, commas, letters, end bytes that are data."""


@dataclass(frozen=True)
class Pair:
    """A layout, read both ways, and the captured frames it is tried on first."""

    name: str
    plan: Plan
    oracle: Oracle
    frames: tuple[bytes, ...]


def captured() -> dict[str, list[bytes]]:
    """Frames of the captures by command, without end byte where they have one."""
    frames: dict[str, list[bytes]] = {}
    for line in CAPTURES.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        frames.setdefault(row["command"], []).append(row["raw"].encode("latin-1").split(b"\r", 1)[0])
    return frames


def pairs() -> list[Pair]:
    """Every layout of every dialect once per command, and the extra ones."""
    by_command = captured()
    everything = (*(frame for frames in by_command.values() for frame in frames), *OF_BYTES)
    found: dict[tuple[bytes, object], Pair] = {}
    for dialect in DIALECTS:
        for query in dialect.queries:
            for reply in query.replies:
                positional, named = arguments(query, reply)
                own = [sample.frame for sample in query.samples]
                own += by_command.get(query.command.decode("latin-1").rstrip("\r"), [])
                name = f"{dialect.name} {query.command!r} {reply.lead!r} {reply.length}"
                pair = Pair(name, plan_for(reply), Oracle(*positional, **named), tuple(own))
                found.setdefault((query.command, reply), pair)
    extra = [Pair(name, Plan(*args, **named), Oracle(*args, **named), everything) for name, args, named in EXTRA]
    return [*found.values(), *extra]


def flip(rng: random.Random, frame: bytearray, at: int) -> None:
    frame[at] ^= 1 << rng.randrange(8)


def truncate(rng: random.Random, frame: bytearray, at: int) -> None:
    del frame[at:]


def lose(rng: random.Random, frame: bytearray, at: int) -> None:
    del frame[at : at + rng.randrange(1, 6)]


def repeat(rng: random.Random, frame: bytearray, at: int) -> None:
    frame[at:at] = frame[at : at + rng.randrange(1, 12)]


def put(rng: random.Random, frame: bytearray, at: int) -> None:
    frame[at:at] = rng.choice(
        (b"\0", b" ", b"  ", b"\n", b"\r", b".", b"-", b"+", b"#", b"@", b"*", b"0", b"\x7f", b"\x80", b"\xff")
    )


def nul(rng: random.Random, frame: bytearray, at: int) -> None:
    frame[at] = 0


def high(rng: random.Random, frame: bytearray, at: int) -> None:
    frame[at] |= 0x80


def figure(rng: random.Random, frame: bytearray, at: int) -> None:
    for place in range(at, len(frame)):
        if 48 <= frame[place] <= 57:
            frame[place] = rng.randrange(48, 58)
            return


def blot(rng: random.Random, frame: bytearray, at: int) -> None:
    """A whole word becomes something else."""
    start = frame.rfind(b" ", 0, at) + 1
    stop = frame.find(b" ", at)
    frame[start : len(frame) if stop < 0 else stop] = rng.choice(
        (b"---.-", b"@@@", b"#12", b"-5.0", b"+22.5", b"0100", b"1.", b".5", b"1.2.3", b"0000@000", b"00001\x0000", b"",
         b"1234567890.12345", b"1234567890123456", b"222", b"5-", b"00001\0\0\0", b"-0.0", b"***")
    )  # fmt: skip


def echo(rng: random.Random, frame: bytearray, at: int) -> None:
    frame[0:0] = rng.choice((b"Q1", b"QS", b"F", b"I", b"D", b"FW?", b"QPI", b"Q1 ", b"   ", b"    ", b"     ", b"\0\n", b"T"))


def tail(rng: random.Random, frame: bytearray, at: int) -> None:
    frame += rng.choice((b"\0", b"\0\0", b" 273", b"0", b"00", b"000", b"\r 273", b"\r\0\0", b".", b" 1.", b" "))


MUTATIONS: tuple[Callable[[random.Random, bytearray, int], None], ...] = (
    flip, truncate, lose, repeat, put, nul, high, figure, figure, blot, blot, echo, tail,
)  # fmt: skip


def mutated(rng: random.Random, frames: tuple[bytes, ...], strangers: tuple[bytes, ...]) -> bytes:
    """A frame as a bad line, a bad bridge or a bad firmware may hand it on."""
    draw = rng.random
    frame = bytearray(frames[int(draw() * len(frames))])
    for _ in range(int(draw() * 4)):
        if not frame:
            break
        MUTATIONS[int(draw() * len(MUTATIONS))](rng, frame, int(draw() * len(frame)))
    if draw() < 0.05:
        other = strangers[int(draw() * len(strangers))]
        frame[int(draw() * (len(frame) + 1)) :] = other[int(draw() * (len(other) + 1)) :]
    return bytes(frame)


def same(pair: Pair, frame: bytes) -> bool:
    """Do both read this frame alike, to the type of every value?"""
    return repr(pair.plan.parse_many([frame])[0]) == repr(pair.oracle.parse(frame))


def shortest(pair: Pair, frame: bytes) -> bytes:
    """The frame with every byte taken out that the difference does not need."""
    at = 0
    while at < len(frame):
        less = frame[:at] + frame[at + 1 :]
        if same(pair, less):
            at += 1
        else:
            frame, at = less, 0
    return frame


def stream_differs(rng: random.Random, frames: list[bytes]) -> str:
    """What is wrong with cutting these frames out of one stream that comes in random chunks; empty if nothing is."""
    stream = b"\r".join(frames)
    framer = Framer(13, 60)
    got: list[bytes] = []
    at = 0
    while at < len(stream):
        size = rng.randrange(1, 90)
        got += framer.feed(stream[at : at + size])
        at += size
    want, pending, thrown = cut(stream, 13, 60)
    ok = got == want and framer.pending() == pending and framer.reset() == thrown + len(pending)
    return "" if ok else f"framer differs on {stream!r}"


def fuzz(frames: int, seed: str, layouts: list[Pair] | None = None, report: Callable[[int], None] = lambda done: None) -> str:
    """Try so many frames on ``layouts`` (all of them); returns the first difference, shortened, or an empty string."""
    rng = random.Random(seed)
    choices = layouts or pairs()
    strangers = tuple(frame for each in captured().values() for frame in each)
    done = 0
    while done < frames:
        pair = rng.choice(choices)
        own = pair.frames if rng.random() < 0.9 else strangers
        batch = [mutated(rng, own, strangers) for _ in range(min(BATCH, frames - done))]
        expected = [pair.oracle.parse(frame) for frame in batch]
        if pair.plan.parse_many(batch) != expected:
            frame = next(frame for frame in batch if not same(pair, frame))
            frame = shortest(pair, frame)
            return (
                f"{pair.name}\nframe    {frame!r}\ncompiled {pair.plan.parse_many([frame])[0]!r}\n"
                f"plain    {pair.oracle.parse(frame)!r}"
            )
        wrong = stream_differs(rng, batch[:20])
        if wrong:
            return wrong
        done += len(batch)
        report(len(batch))
    return ""


_done: Any = None
"""The count of frames that all processes share."""


def _share(done: Any) -> None:
    global _done
    _done = done


def _job(frames: int, seed: str) -> str:
    def report(count: int) -> None:
        with _done.get_lock():
            _done.value += count

    return fuzz(frames, seed, report=report)


def main() -> int:
    """Run the command line; 0 when both agree on every frame."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    options = parser.parse_args()
    done = multiprocessing.Value("q", 0)
    started = time.monotonic()
    share = -(-options.frames // options.jobs)
    with multiprocessing.Pool(options.jobs, _share, (done,)) as pool:
        running = [pool.apply_async(_job, (share, f"{options.seed}-{index}")) for index in range(options.jobs)]
        while running:
            for result in [result for result in running if result.ready()]:
                running.remove(result)
                difference = result.get()
                if difference:
                    print(difference)
                    return 1
            if running:
                running[0].wait(2)
            rate = done.value / (time.monotonic() - started)
            print(f"\r{done.value:,} frames, {rate:,.0f}/s ", end="", file=sys.stderr, flush=True)
    seconds = time.monotonic() - started
    print(f"\n{done.value:,} frames agree, {seconds:.0f} s, {done.value / seconds:,.0f} frames/s, seed {options.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
