"""Which bridge sits behind which USB ids, as data, and the udev rules that follow from it.

Source: usb-devices.csv, in its order; usb.md section 4.2 (the first row that fits wins) and 9.13 (the rule's form).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SEED_BRIDGES: Final = ("phoenix", "ippon", "cypress", "krauler")
"""What both seeds offer as ``subdriver``."""

GROUP: Final = "qxfleet"
"""Who may use the devices: the agent's group."""

RULES_FILE: Final = "70-qxfleet-usb.rules"


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of device. ``vendor`` and ``product`` are its strings where they matter; ``bridge`` is None for what is no UPS."""

    vendor_id: int
    product_id: int
    bridge: str | None
    known_as: str
    vendor: str | None = None
    product: str | None = None

    @property
    def ids(self) -> str:
        """``0665:5161``."""
        return f"{self.vendor_id:04x}:{self.product_id:04x}"

    def fits(self, vendor_id: int, product_id: int, vendor: str, product: str) -> bool:
        """Whether a device is of this kind; strings are compared whole, without regard to case, not stripped."""
        return (
            (vendor_id, product_id) == (self.vendor_id, self.product_id)
            and (self.vendor is None or self.vendor.lower() == vendor.lower())
            and (self.product is None or self.product.lower() == product.lower())
        )


DEVICES: Final = (
    Row(0x05B8, 0x0000, "cypress", "Agiler UPS, SVEN Power Pro+"),
    Row(0xFFFF, 0x0000, "ablerex", "Ablerex 625L and others"),
    Row(0x1CB0, 0x0035, "krauler", "Legrand Daker DK, DK Plus"),
    Row(0x0665, 0x5161, "cypress", "Belkin F6C1200-UNV, Voltronic Power and its many rebadges"),
    Row(0x06DA, 0x0002, "phoenixtec", "Masterguard A series", "Phoenixtec Power", "USB Cable (V2.00)"),
    Row(0x06DA, 0x0002, "cypress", "Online Yunto YQ450"),
    Row(0x06DA, 0x0003, "ippon", "Mustek PowerMust, Ippon Back Power Pro"),
    Row(0x06DA, 0x0004, "cypress", "Phoenixtec Innova 3/1 T"),
    Row(0x06DA, 0x0005, "cypress", "Phoenixtec Innova RT"),
    Row(0x06DA, 0x0201, "cypress", "Phoenixtec Innova T"),
    Row(0x06DA, 0x0601, "phoenix", "Online Zinto A"),
    Row(0x0F03, 0x0001, "cypress", "Unitek Alpha 1200Sx"),
    Row(0x14F0, 0x00C9, "phoenix", "GE EP series"),
    Row(0x1A86, 0x7523, None, "CH340 serial adapter, used through its tty"),
    Row(0x0483, 0x0035, "sgs", "TS Shara"),
    Row(0x0590, 0x00B7, "omron", "OMRON BN150T"),
    Row(0x0001, 0x0000, "fabula", "Fideltronik, MEC Lupus 500", "MEC", "MEC0003"),
    Row(0x0001, 0x0000, "hunnox", "Hunnox HNX-850, Powercool, Crown, DigiTECH, DEXP", None, "MEC0003"),
    Row(0x0001, 0x0000, "fuji", "Fuji UPSes", "ATCL FOR UPS", "ATCL FOR UPS"),
    Row(0x0001, 0x0000, "krauler", "Krauler UP-M500VA and no-name units"),
    Row(0x0001, 0x0000, "snr", "SNR-UPS-LID; reached by subdriver only, an earlier row wins", None, "MEC0003"),
    Row(0x0925, 0x1234, "armac", "Armac and other Richcomm bridges"),
)


def bridges_of(vendor_id: int, product_id: int) -> tuple[str, ...]:
    """All bridges that a device of these ids may have, the likeliest first."""
    rows = (row for row in DEVICES if (row.vendor_id, row.product_id) == (vendor_id, product_id))
    return tuple(dict.fromkeys(row.bridge for row in rows if row.bridge is not None))


def bridge_for(vendor_id: int, product_id: int, vendor: str, product: str) -> str | None:
    """The bridge of the first row that fits and has one; None for a device that is not known as a UPS."""
    for row in DEVICES:
        if row.bridge is not None and row.fits(vendor_id, product_id, vendor, product):
            return row.bridge
    return None


def udev_rule(vendor_id: int, product_id: int) -> str:
    """The line that lets the agent's group use a device, and keeps it from being put to sleep."""
    return (
        'ACTION!="remove", SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", '
        f'ATTR{{idVendor}}=="{vendor_id:04x}", ATTR{{idProduct}}=="{product_id:04x}", '
        f'MODE="0660", GROUP="{GROUP}", ATTR{{power/control}}="on"'
    )


def udev_rules() -> str:
    """The whole rules file: every device of the table that has a bridge, once."""
    known: dict[tuple[int, int], list[str]] = {}
    for row in DEVICES:
        if row.bridge is not None:
            known.setdefault((row.vendor_id, row.product_id), []).append(f"# {row.known_as} ({row.bridge})")
    blocks = ("\n".join([*names, udev_rule(*ids)]) for ids, names in known.items())
    head = (
        f"# UPSes with USB bridges, for the group {GROUP}. Install as /etc/udev/rules.d/{RULES_FILE}, then\n"
        "# udevadm control --reload && udevadm trigger --subsystem-match=usb\n"
        "# Made from the device table in qxfleet/transports/usb_ids.py; a test compares the two."
    )
    return "\n\n".join([head, *blocks]) + "\n"
