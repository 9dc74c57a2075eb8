"""What the unit can be told to do or leave: QFLAG, its letters, and PF (voltronic.md sections 8 and 10)."""

from __future__ import annotations

from qxfleet.dialects.columns import CRC, told
from qxfleet.dialects.spec import DeviceSetting, Field, Holds, Letter, Query, Reply, Tier, Topic

ABLED = ("disabled", "enabled")
YES_NO = ("no", "yes")

LETTERS: tuple[tuple[str, str, tuple[str, str], str], ...] = (
    ("p", "bypass_alarm", ABLED, "beep in bypass mode; sounds only if alarm_control is on"),
    ("b", "battery_alarm", ABLED, "beep in battery mode; sounds only if alarm_control is on"),
    ("r", "ups.start.auto", YES_NO, "restart when mains return"),
    ("o", "bypass_when_off", ABLED, "mains feed the load while the UPS is off; works only if bypass_forbidding is off"),
    ("a", "alarm_control", ABLED, "beeper; the commands beeper.enable and beeper.disable do the same"),
    ("s", "battery.protection", YES_NO, "protection of the battery against deep discharge"),
    ("v", "converter_mode", ABLED, "fixed output frequency from 40 to 70 Hz input"),
    ("e", "eco_mode", ABLED, "ECO mode; the commands bypass.start and bypass.stop do the same"),
    ("g", "battery.energysave", YES_NO, "switch off when there is no load"),
    ("d", "battery_open_status_check", ABLED, "check that a battery is there when turned on"),
    ("c", "ups.start.battery", YES_NO, "may be turned on without mains"),
    ("f", "bypass_forbidding", ABLED, "never go to bypass"),
    ("j", "outlet.0.switchable", YES_NO, "cut programmable outlets on battery after their delay"),
    ("l", "site_fault_detection", ABLED, "beep when live and neutral are reversed"),
    ("n", "advanced_eco_mode", ABLED, "ECO mode with PFC and inverter off"),
    ("q", "constant_phase_angle", ABLED, "output phase angle may differ from the input's"),
    ("w", "limited_runtime_on_battery", ABLED, "limited runtime on battery"),
)
"""Letter, variable, its values when disabled and enabled, what it does. h, t, k, i, m and z appear too; nobody knows them."""

QFLAG = Query(
    b"QFLAG\r",
    (
        Reply(
            b"(", tuple(Field(name, Letter(letter), choices=choices) for letter, name, choices, _ in LETTERS),
            length=(1, 60 + CRC), render="(E%(enabled)sD%(disabled)s",
        ),
    ),
    Tier.AFTER_ORDER, Topic.DEVICE,
    (
        told(
            b"(EpashcDbroegfl",
            {
                "bypass_alarm": "enabled", "alarm_control": "enabled", "battery.protection": "yes", "ups.start.battery": "yes",
                "battery_alarm": "disabled", "ups.start.auto": "no", "bypass_when_off": "disabled", "eco_mode": "disabled",
                "battery.energysave": "no", "bypass_forbidding": "disabled", "site_fault_detection": "disabled",
            },
            "voltronic.md section 8",
        ),
        told(
            b"(EDbroegfl", {"battery_alarm": "disabled", "ups.start.auto": "no", "eco_mode": "disabled"},
            "voltronic.md section 8: nothing enabled",
        ),
    ),
    "voltronic.md section 8",
)  # fmt: skip


def _switch(letter: str, name: str, choices: tuple[str, str], description: str) -> DeviceSetting:
    off, on = (f"P{state}{letter.upper()}\r".encode() for state in "DE")
    return DeviceSetting(
        name, description, QFLAG.command, choices=((choices[1], on), (choices[0], off)), when=(Holds(name),),
        source="voltronic.md sections 8 to 10",
    )  # fmt: skip


SWITCHES: tuple[DeviceSetting, ...] = tuple(_switch(*row) for row in LETTERS)

RESET = DeviceSetting(
    "reset_to_default", "all capabilities and their voltage and frequency limits back to what they were when new", None,
    choices=(("yes", b"PF\r"),), now=(Holds("qx.mode", ("standby",)),),
    why_not="possible only while the UPS is in standby mode",
    upsets="resets every capability, ups.start.auto, battery.protection, battery.energysave, ups.start.battery, "
    "outlet.0.switchable, and the limits of ECO and bypass mode",
    when=(Holds("qx.mode"),),
    source="voltronic.md section 10",
)  # fmt: skip
