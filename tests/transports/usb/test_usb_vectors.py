"""Every bridge against the reference's test vectors (usb.md section 8), byte for byte, over pyusb's core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import usb.core

from qxfleet.model.wire import Ask
from qxfleet.transports.bridges import BRIDGES
from qxfleet.transports.bridges.fabula import shutdown_index
from qxfleet.transports.usb_device import UsbDevice
from tests.transports.usb import emulated
from tests.transports.usb.emulated import Q1, Emulated, TextUps
from tests.transports.usb.fake_usb import FakeUsb

PAD = b"\0"
Talk = Callable[..., tuple[Emulated, UsbDevice, Callable[[bytes], bytes]]]


def _vector(command: bytes) -> bytes | None:
    """The UPS of the vectors."""
    return {b"Q1": Q1, b"F": b"#220.0 000 024.0 50.0\r", b"BL": b"BL100\r"}.get(command, TextUps().answer(command))


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    """Opens an emulated device and hands out (it, the device as bridges see it, a function that exchanges)."""
    opened: list[UsbDevice] = []
    host = FakeUsb(tmp_path)

    def make(
        kind: type[Emulated], name: str = "", answer: Callable[[bytes], bytes | None] = _vector, **options: object
    ) -> tuple[Emulated, UsbDevice, Callable[[bytes], bytes]]:
        model = kind(answer)
        host.plug(f"1-{len(host.plugged) + 1}", model)
        raw = list(usb.core.find(find_all=True, backend=host))[-1]
        device = UsbDevice(raw, **options)  # type: ignore[arg-type]
        opened.append(device)
        device.open()
        bridge = BRIDGES[name or kind.__name__.lower()]
        return model, device, lambda command: bridge.exchange(device, Ask(command + b"\r"))

    yield make
    for device in opened:
        device.close()
    assert host.handles == 0


def sent(model: Emulated, *kinds: str) -> list[tuple[object, ...]]:
    """Transfers of these kinds, and forget all."""
    found = [entry for entry in model.log if entry[0] in kinds]
    model.log.clear()
    return found


def report(text: bytes, size: int = 8) -> bytes:
    return text.ljust(size, PAD)


def test_cypress(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Cypress)
    assert exchange(b"Q1") == Q1 + PAD
    assert model.log == [("SR", 0x0200, bytes.fromhex("51310d0000000000")), *[("IR", 0x81, 8, 1000)] * 6]
    model.log.clear()
    model.answer = lambda command: b"(NAK\r"
    assert exchange(b"PSDV123456789").partition(b"\r")[0] == b"(NAK"
    assert sent(model, "SR") == [
        ("SR", 0x0200, bytes.fromhex("5053445631323334")),
        ("SR", 0x0200, bytes.fromhex("35363738390d0000")),
    ]


def test_phoenix_flushes_until_silence_then_is_cypress(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Phoenix)
    model.packets.extend([b"(old rep", b"ly 1\r\0\0\0"])
    assert exchange(b"Q1") == Q1 + PAD
    assert model.log == [
        *[("IR", 0x81, 8, 1000)] * 3, ("SR", 0x0200, report(b"Q1\r")), *[("IR", 0x81, 8, 1000)] * 6,
    ]  # fmt: skip
    model.log.clear()
    assert exchange(b"Q1") == Q1 + PAD
    assert model.log[0] == ("IR", 0x81, 8, 50), "after a clean end a short look is enough (section 11 rule 3)"
    model.packets.extend([bytes(8)] * 20)
    model.log.clear()
    exchange(b"Q1")
    assert [entry[0] for entry in model.log].index("SR") == 8, "at most eight reads"
    model.packets.clear()
    model.stalled = True
    assert exchange(b"Q1") == Q1 + PAD
    assert model.halts_cleared == 1


def test_ippon(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Ippon)
    assert exchange(b"F") == b"#220.0 000 024.0 50.0\r"
    assert model.log == [("SR", 0x0002, bytes.fromhex("460d000000000000")), ("IR", 0x81, 64, 1000)]
    assert not model.packets, "all 64 bytes are taken"
    model.packets.extend([b"\0\r" + bytes(6), *[bytes(8)] * 7])
    model.answer = lambda command: None
    assert exchange(b"Q1") == b""


@pytest.mark.parametrize(("langid", "wire"), [
    (0x409, [("SD", 3, 0x0409, 255)]), (0x4095, [("SD", 3, 0x4095, 255)]), (None, [("SD", 0, 0, 4), ("SD", 3, 0x0409, 255)]),
])  # fmt: skip
@pytest.mark.parametrize("with_cr", [True, False])
def test_krauler_reads_strings(talk: Talk, langid: int | None, wire: list[object], with_cr: bool) -> None:
    model, _, exchange = talk(emulated.Krauler, langid=langid)
    assert isinstance(model, emulated.Krauler)
    model.first_byte, model.with_cr = b"?", with_cr
    assert exchange(b"Q1") == Q1
    assert model.log == wire
    if with_cr:
        assert model.string(3, 0)[:14] == bytes.fromhex("60033f00320033003000 2e003100".replace(" ", ""))
        assert len(model.string(3, 0)) == 96
    assert exchange(b"F") == b"#220.0 000 024.0 50.0\r"


def test_krauler_without_an_answer_and_without_a_number(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Krauler, langid=0x409)
    assert isinstance(model, emulated.Krauler)
    assert model.string(3, 0)[0] == 0x60
    model.no_acks = 99
    model.log.clear()
    assert model.string(3, 0) == bytes.fromhex("16035500500053002000 4e006f002000410063006b00".replace(" ", ""))
    assert exchange(b"Q1") == b""
    assert model.log == [("SD", 3, 0x0409, 255)] * 10
    model.log.clear()
    assert exchange(b"S.5R0003") == b"S.5R0003\r"
    assert exchange(b"QGS") == b"QGS\r"
    assert model.log == []
    assert exchange(b"Q") == b""
    assert model.log == [("SD", 7, 0x0409, 255)], "an order is never repeated"
    model.no_acks = 0
    assert exchange(b"Q") == b"ACK\r"
    for command, index in ((b"T", 4), (b"TL", 5), (b"C", 11), (b"CT", 11)):
        model.log.clear()
        exchange(command)
        assert model.log == [("SD", index, 0x0409, 255)]


def test_krauler_tries_again_where_the_length_is_wrong(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Krauler, langid=0x409)
    whole = model.string(3, 0)
    broken = iter([whole[:50], bytes((whole[0] + 2,)) + whole[1:], whole])
    model.string = lambda number, langid: next(broken)  # type: ignore[method-assign]
    assert exchange(b"Q1") == Q1
    assert len(model.log) == 3


def test_a_malformed_language_table_is_an_input_error(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Krauler)
    model.string = lambda number, langid: bytes((2, 3))  # type: ignore[method-assign]
    with pytest.raises(usb.core.USBError) as caught:
        exchange(b"Q1")
    assert caught.value.backend_error_code == -1


@pytest.mark.parametrize(("command", "index"), [
    (b"S.5R0000", 0x10), (b"S.5R0003", 0x18), (b"S.9", 0x58), (b"S01R0001", 0x68), (b"S10R0000", 0xF0),
    (b"S10R9999", 0xF8), (b"S0", 0x18),
])  # fmt: skip
def test_fabula_puts_the_time_into_the_number(talk: Talk, command: bytes, index: int) -> None:
    model, _, exchange = talk(emulated.Fabula)
    assert shutdown_index(command) == index
    assert exchange(command) == b""
    assert model.log == [("SD", 0, 0, 4), ("SD", index, 0x0409, 255)]


def test_fabula_queries(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Fabula)
    assert exchange(b"Q1") == Q1
    assert exchange(b"T") == b"T\r"
    assert [entry[1] for entry in sent(model, "SD")] == [0, 3]


def test_hunnox_keeps_step(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Hunnox, langid=0x409)
    read = []
    for command in (b"Q1", b"F", b"I", b"Q1", b"Q1", b"Q1", b"BL"):
        reply = exchange(command)
        read.append([entry[1] for entry in sent(model, "SD")])
        assert reply == _vector(command)
    assert read == [[0, 0, 1, 3], [0x0D], [3, 0x0C], [0x0C, 3], [0x0D, 3], [3], [0x0C, 0xF3]]


def test_hunnox_sizes_and_novendor(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Hunnox, novendor=True)
    for _ in range(4):
        exchange(b"Q1")
    assert model.log == [
        *[("SD", 0, 0x0409, 1026)] * 2, ("SD", 1, 0x0409, 1026), ("SD", 3, 0x0409, 102),
        ("SD", 0x0D, 0x0409, 102), ("SD", 3, 0x0409, 102),
        ("SD", 3, 0x0409, 102),
        ("SD", 3, 0x0409, 102),
    ]  # fmt: skip


def test_snr_wakes_the_bridge_first(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Snr, langid=0x409)
    assert exchange(b"Q1") == Q1
    assert model.log == [("IR", 0x81, 104, 1000), ("SD", 3, 0x0409, 102)], "102 in whole packets of 8 (section 1.4)"
    assert exchange(b"T") == b"T\r"


@pytest.mark.parametrize(("command", "frame"), [
    (b"Q1", "800603035131002f"), (b"F", "8006020346000016"), (b"I", "8006020349000027"), (b"T", "8006020354000000"),
    (b"T10", "8006040354313000"), (b"S.5R0003", "80060403532e3500"),
])  # fmt: skip
def test_fuji(talk: Talk, command: bytes, frame: str) -> None:
    model, _, exchange = talk(emulated.Fuji)
    expected = _vector(command)
    if expected is None:
        with pytest.raises(usb.core.USBTimeoutError):
            exchange(command)
    else:
        assert exchange(command) == expected
    assert sent(model, "IW") == [("IW", 0x02, bytes.fromhex(frame))]


def test_fuji_echoes_what_does_not_fit(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Fuji)
    assert exchange(b"S.5R0000") == b"S.5R0000\r"
    assert model.log == []


def test_phoenixtec(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Phoenixtec)
    assert exchange(b"Q1") == Q1
    assert sent(model, "CTRL") == [("CTRL", 0x42, 0x0D, b"Q1\r")]
    assert exchange(b"S.3R0003") == b""
    assert model.log == [("CTRL", 0x42, 0x0D, b"S.3R0003\r")]
    model.log.clear()
    assert exchange(b"MSO") == b"MSO\r"
    assert model.log[1][0] == "IR"


def test_sgs(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Sgs)
    assert exchange(b"Q1") == Q1
    assert model.log[0] == ("SR", 0x0200, bytes.fromhex("0351310d00000000"))
    assert next(iter(model.packed(Q1))) == bytes.fromhex("07283233302e3120")
    assert list(model.packed(Q1))[-1] == bytes.fromhex("053130 30310d0000".replace(" ", ""))
    model.log.clear()
    assert exchange(b"S01R0003") == b""
    assert sent(model, "SR") == [
        ("SR", 0x0200, bytes.fromhex("0753303152303030")), ("SR", 0x0200, bytes.fromhex("02330d0000000000")),
    ]  # fmt: skip
    model.answer = lambda command: Q1.rstrip(b"\r")
    assert exchange(b"Q1") == Q1, "a reply that ends by silence"


def test_ablerex(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr("qxfleet.transports.bridges.ablerex.pause_ms", waits.append)
    model, _, exchange = talk(emulated.Ablerex)
    assert exchange(b"Q1") == Q1
    assert model.log == [("SR", 0x0305, bytes.fromhex("05000351310d") + bytes(41)), ("GR", 0x0305, 47)]
    assert waits == [500]
    model.log.clear()
    model.answer = lambda command: b"(short\r"
    assert exchange(b"Q1") == b""
    assert len(sent(model, "SR")) == 3
    assert exchange(b"Q5") == b"(" + bytes(21)
    assert exchange(b"T") == b"(short\r"


def test_gtec(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Gtec)
    assert exchange(b"Q4") == b"Q4\r"
    assert model.log == [("SR", 0x0002, bytes.fromhex("51340d0000000000")), ("IR", 0x81, 128, 1000)]
    assert exchange(b"Q1") == Q1


def test_omron(talk: Talk) -> None:
    model, _, exchange = talk(emulated.Omron)
    assert exchange(b"Q1") == Q1
    assert model.log == [("SR", 0x0002, b"Q1\r" + bytes(13)), ("IR", 0x81, 64, 1000)]
    model.answer = lambda command: b"OK3"
    assert exchange(b"T") == b"OK3\r"


def test_armac_by_control(talk: Talk) -> None:
    model, _, exchange = talk(emulated.ArmacControl, "armac")
    assert exchange(b"Q1") == Q1
    assert sent(model, "SR") == [("SR", 0x0200, bytes.fromhex("a351310d"))]
    assert list(model.packed(Q1))[:2] == [bytes.fromhex("a5283233302e"), bytes.fromhex("a53120323239")]
    model.answer = lambda command: None
    with pytest.raises(usb.core.USBTimeoutError):
        exchange(b"S01R0003")
    assert [entry[2] for entry in sent(model, "SR")] == [
        bytes.fromhex("a3533031"), bytes.fromhex("a3523030"), bytes.fromhex("a330330d"),
    ]  # fmt: skip


def test_armac_with_seven_bytes_a_packet(talk: Talk) -> None:
    model, _, exchange = talk(emulated.ArmacSeven, "armac")
    assert exchange(b"Q1") == Q1
    assert next(iter(model.packed(Q1))) == bytes.fromhex("a7283233302e3120")


def test_armac_by_interrupt(talk: Talk) -> None:
    model, _, exchange = talk(emulated.ArmacInterrupt, "armac")
    assert exchange(b"Q1") == Q1
    assert model.log == [("IW", 0x02, bytes.fromhex("a351310d")), ("IR", 0x82, 64, 1000)]
    assert next(iter(model.packed(Q1)))[0] == 0xAF
    for ignored in (b"QGS", b"QS", b"QPI", b"M", b"D"):
        assert exchange(ignored) == ignored + b"\r"


def test_armac_nul_is_a_zero_bit_late_and_an_end_early(talk: Talk) -> None:
    model, _, exchange = talk(emulated.ArmacInterrupt, "armac")
    model.answer = lambda command: Q1.replace(b"00001001", b"0\0\0\x001001")
    assert exchange(b"Q1") == Q1
    model.answer = lambda command: b"(230\0" + Q1[5:]
    assert exchange(b"Q1") == b"(230"
    model.answer = lambda command: bytes(40)
    assert exchange(b"Q1") == b""
