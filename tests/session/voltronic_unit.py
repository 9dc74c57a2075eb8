"""A voltronic unit that answers from a table and keeps what it is told, at the pace of a 2400 baud line."""

from __future__ import annotations

import asyncio
import re

from tests.session.script import Device

BYTES_PER_S = 240
CLEAR = "0" * 64
LETTERS = "pbroasvegdcfjlnqw"


def qgs(bits: str = "100000000001", *, volts_in: str = "230.0", volts_out: str = "230.0") -> str:
    return f"({volts_in} 50.0 {volts_out} 50.0 001.2 023 369.1 ---.- 026.5 ---.- 018.8 {bits}"


MAINS, OUTAGE = qgs(), qgs("101000000001", volts_in="000.0")


class Unit(Device):
    """P01 to P99 by ``protocol``; ``state`` maps a question to its answer, ``log`` has what was asked and when."""

    def __init__(self, protocol: str = "01", *, paced: bool = False, **state: str) -> None:
        super().__init__()
        self.paced = paced
        self.enabled = set("pashcj")
        self.refuses: set[str] = set()
        self.deaf: set[str] = set()
        self.replies = {
            "QGS": MAINS, "QPI": f"(PI{protocol}", "QMOD": "(L", "QWS": "(" + CLEAR, "QBV": "(026.5 02 01 068 255",
            "QRI": "(230.0 004 024.0 50.0", "QMD": "(#######OLHVT1K0 ###1000 80 1/1 230 230 02 12.0",
            "F": "#220.0 004 024.0 50.0", "QMF": "(#######BOH", "QVFW": "(VERFW:00322.02", "QID": "(12345679012345",
            "QLDL": "(021 023", "QHE": "(242 218", "QFRE": "(53.0 47.0", "QBYV": "(264 170", "QBYF": "(53.0 47.0",
            "RE0": "#20", "QPD": "(000 120", "QPAR": "(001", "QFS": "(OK",
            "Q3PV": "(230.1 231.2 232.3 398.4 399.5 400.6", "Q3PC": "(010 011 012",
            **{f"QSK{n}": "(1" for n in range(1, 5)}, **{f"QSKT{n}": "(008" for n in range(1, 5)}, **state,
        }  # fmt: skip

    def __call__(self, request: bytes) -> bytes | asyncio.Task[bytes] | None:  # type: ignore[override]
        text = request.decode("latin-1").rstrip("\r")
        self.log.append((asyncio.get_running_loop().time(), text))
        if text in self.deaf:
            return None
        reply = (self.answer(text) + "\r").encode()
        if not self.paced:
            return reply
        return asyncio.ensure_future(self._slowly(request, text))

    async def _slowly(self, request: bytes, text: str) -> bytes:
        """A reply is made when the request is in, and takes its time on the line."""
        await asyncio.sleep(len(request) / BYTES_PER_S)
        reply = (self.answer(text) + "\r").encode()
        await asyncio.sleep(len(reply) / BYTES_PER_S)
        return reply

    def answer(self, text: str) -> str:
        if text in self.refuses:
            return "(NAK"
        if text == "QFLAG":
            on = "".join(letter for letter in LETTERS if letter in self.enabled)
            return self.replies.get("QFLAG") or f"(E{on}D" + "".join(letter for letter in LETTERS if letter not in on)
        if (reply := self.replies.get(text)) is not None:
            return reply
        if switch := re.fullmatch(r"P([ED])([A-Z])", text):
            (self.enabled.add if switch[1] == "E" else self.enabled.discard)(switch[2].lower())
            return "(ACK"
        for pattern, question, template in KEEPS:
            if match := re.fullmatch(pattern, text):
                self.replies[question.format(*match.groups())] = self._put(question.format(*match.groups()), template, match)
                return "(ACK"
        return "(ACK" if re.fullmatch(r"S.*|T.*|C[ST]|BZ.*", text) else "(NAK"

    def _put(self, question: str, template: str, match: re.Match[str]) -> str:
        now = self.replies[question]
        first, second = [*now[1:].split(), "", ""][:2]
        return template.format(*match.groups(), first=first, second=second)


KEEPS = (
    (r"HEH(\d{3})", "QHE", "({0} {second}"), (r"HEL(\d{3})", "QHE", "({first} {0}"),
    (r"FREH(\d\d\.\d)", "QFRE", "({0} {second}"), (r"FREL(\d\d\.\d)", "QFRE", "({first} {0}"),
    (r"PHV(\d{3})", "QBYV", "({0} {second}"), (r"PLV(\d{3})", "QBYV", "({first} {0}"),
    (r"PPD(\d{3})", "QPD", "({first} {0}"), (r"PSK(\d)(\d{3})", "QSKT{0}", "({1}"), (r"W0E(\d\d)", "RE0", "#{0}"),
    (r"BATGN(\d\d)", "QBV", "(026.5 02 {0} 068 255"), (r"BATN(\d)", "QBV", "(026.5 0{0} 01 068 255"),
)  # fmt: skip
"""Setting, the question that shows it, and the answer it gives from then on."""
