"""A simulated voltronic unit: every query and order of voltronic.md on the machine's physics."""

from __future__ import annotations

import binascii
import copy
import math
import re

from qxfleet.dialects.spec import Dialect
from qxfleet.testing.machine import QUICK_TEST_S, Machine, Returns
from qxfleet.testing.unit import Fault, Unit
from qxfleet.testing.voltronic.models import Model
from qxfleet.testing.voltronic.replies import queries
from qxfleet.testing.voltronic.state import EPO, State

RATING_QUERIES, VENDOR_QUERIES = ("QRI", "QMD", "F"), ("QMF", "QVFW", "QID", "I")
"""What a unit without ratings, or without a vendor, refuses."""


class VoltronicUps(Unit):
    """One unit of ``model``, on a ``machine`` of its ratings; its :attr:`state` is played on command.

    ``crc``: it closes every reply with one (voltronic.md section 1.5).
    """

    def __init__(
        self,
        dialect: Dialect,
        model: Model,
        *,
        name: str = "ups",
        seed: int = 0,
        machine: Machine | None = None,
        maker: str = "BOH",
        groups: tuple[str, ...] = (),
        description: str = "",
        crc: bool = False,
        think_s: float = 0.0,
    ) -> None:
        super().__init__(
            dialect, machine or Machine(model.ratings, seed=seed), name=name, seed=seed, groups=groups,
            description=description, think_s=think_s,
        )  # fmt: skip
        self.state = State(model, self.machine)
        self._crc = crc
        self._queries = queries(self.state, maker, self.status_bits)

    def press(self, setting: str) -> bool:
        """Set something at the front panel, spelled as its order on the wire: ``PEE``, ``HEH250``; False if refused.

        ``ValueError`` if that is no setting.
        """
        done = self.state.settings.apply(setting, standby=self.state.mode() == "S")
        if done is None:
            raise ValueError(f"{setting!r} is no setting of a voltronic unit")
        return done

    def status_bits(self) -> str:
        """The twelve characters of QGS, b11 first (voltronic.md section 5.2)."""
        machine, faults, state = self.machine, self.faults, self.state
        tested_as_outage = machine.testing and Fault.TEST_RAISES_UTILITY_FAIL in faults
        bits = (
            not machine.ratings.line_interactive,
            machine.ratings.line_interactive,
            machine.on_battery or tested_as_outage,
            machine.battery_low,
            machine.regulating,
            bool(state.fault_code),
            EPO in state.raised,
            machine.testing,
            machine.shutting_down or Fault.STUCK_SHUTDOWN_BIT in faults,
            not machine.beeper,
            machine.test_passed is False,
            machine.test_passed is True,
        )
        return "".join("1" if bit else "0" for bit in bits)

    # -- the wire ----------------------------------------------------------------------------------------------------

    def _truth(self, request: bytes) -> bytes | None:
        self.state.keep_up()
        text = request[:-1].decode("latin-1")
        absent = (RATING_QUERIES if Fault.NO_RATING in self.faults else ()) + (
            VENDOR_QUERIES if Fault.NO_VENDOR in self.faults else ()
        )
        if text in absent:
            return self._refusal(request)
        if query := self._queries.get(text):
            reply = query().encode("latin-1") + b"\r"
            return self._sealed(self._as_broken(reply) if text == "QGS" else reply)
        return self._sealed(b"(ACK\r") if self._order(text) else self._refusal(request)

    def _refusal(self, request: bytes) -> bytes | None:
        return self._sealed(b"(NAK\r")

    def _sealed(self, reply: bytes) -> bytes:
        if not self._crc:
            return reply
        seal = binascii.crc_hqx(reply[:-1], 0).to_bytes(2, "big")
        return reply[:-1] + bytes(byte + 1 if byte in b"\n\r(" else byte for byte in seal) + b"\r"

    # -- orders: voltronic.md sections 8 to 11 -----------------------------------------------------------------------

    def _order(self, text: str) -> bool:
        """Carry out an order; False if the unit does not know it, or refuses it now."""
        ignores = Fault.ACK_BUT_IGNORE in self.faults
        settings = copy.deepcopy(self.state.settings) if ignores else self.state.settings
        done = settings.apply(text, standby=self.state.mode() == "S")
        if done is not None:
            return done
        for pattern, act in self._ORDERS:
            if match := re.fullmatch(pattern, text):
                return ignores or act(self, *match.groups())
        return False

    def _test(self, seconds: float) -> bool:
        """Tests need line, converter or ECO mode (voltronic.md section 11)."""
        return self.state.mode() in "LCE" and self.machine.start_test(seconds)

    def _timed_test(self, minutes: str) -> bool:
        return self._test(60 * float(minutes))

    def _quick_test(self) -> bool:
        return self._test(QUICK_TEST_S)

    def _deep_test(self) -> bool:
        return self._test(math.inf)

    def _stop_test(self) -> bool:
        self.machine.stop_test()
        return True

    def _shut_down(self, minutes: str, back: str | None) -> bool:
        returns = Returns.WITH_MAINS if back is None else Returns.AFTER if int(back) else Returns.NEVER
        self.machine.shut_down(60 * float(minutes), returns, 60 * float(back or 0))
        return True

    def _cancel(self) -> bool:
        """Refused when nothing is pending (voltronic.md section 12)."""
        pending = self.machine.shutting_down
        if pending:
            self.machine.cancel()
        return pending

    def _load_on(self) -> bool:
        self.machine.cancel()
        return True

    def _load_off(self) -> bool:
        self.machine.switch_off()
        return True

    def _outlet(self, state: str, number: str) -> bool:
        outlets, outlet = self.state.outlets, int(number) - 1
        if not self.state.settings.enabled("j") or not 0 <= outlet < len(outlets):
            return False
        outlets[outlet] = state == "ON"
        return True

    def _beeper(self, state: str) -> bool:
        """It can be silenced only while it beeps (voltronic.md section 11)."""
        machine = self.machine
        if state == "OFF" and not (machine.beeper and self.state.beeps()):
            return False
        if Fault.STUCK_BEEPER not in self.faults:
            machine.beeper = state == "ON"
        return True

    _ORDERS = (
        (r"T(\.[2-9]|0[1-9]|[1-9]\d)", _timed_test),
        (r"T", _quick_test),
        (r"TL", _deep_test),
        (r"CT", _stop_test),
        (r"S(\.[2-9]|0[1-9]|[1-9]\d)(?:R(\d{4}))?", _shut_down),
        (r"CS", _cancel),
        (r"SON", _load_on),
        (r"SOFF", _load_off),
        (r"SK(ON|OFF)(\d)", _outlet),
        (r"BZ(ON|OFF)", _beeper),
    )

