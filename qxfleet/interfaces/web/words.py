"""How a UPS stands, in words for people and in a tone for the eye."""

from __future__ import annotations

from qxfleet.model.events import Link
from qxfleet.model.state import DeviceState
from qxfleet.model.status import ORDER, Status

WORDS = {
    Status.OL: "Online", Status.OB: "On battery", Status.LB: "Low battery", Status.HB: "High battery",
    Status.RB: "Replace battery", Status.CHRG: "Charging", Status.DISCHRG: "Discharging", Status.BYPASS: "Bypass",
    Status.CAL: "Battery test", Status.OFF: "Off", Status.OVER: "Overloaded", Status.TRIM: "Trimming voltage",
    Status.BOOST: "Boosting voltage", Status.FSD: "Forced shutdown", Status.ALARM: "Alarm", Status.ECO: "ECO mode",
}  # fmt: skip

LINKS = {Link.DETECTING: "Detecting", Link.STALE: "Stale", Link.LOST: "No contact"}

BAD = Status.OB | Status.LB | Status.OFF | Status.FSD | Status.OVER
ODD = Status.RB | Status.BYPASS | Status.CAL | Status.TRIM | Status.BOOST | Status.HB | Status.ALARM
"""Worth a look, and no reason to run."""


def words(state: DeviceState) -> str:
    """The status in words; that of a UPS out of contact is that there is none."""
    if state.link is not Link.ONLINE:
        return LINKS[state.link]
    if state.reading is None:
        return "No reading yet"
    return ", ".join(WORDS[flag] for flag in ORDER if state.status & flag) or "Not known"


def tone(state: DeviceState) -> str:
    """``good``, ``odd``, ``bad``, or ``gone`` where nothing is known. A battery test is no outage."""
    if state.link is not Link.ONLINE or state.reading is None:
        return "gone" if state.link is Link.DETECTING else "bad"
    status = state.status & ~(Status.OB | Status.DISCHRG) if state.status & Status.CAL else state.status
    if status & BAD:
        return "bad"
    return "odd" if status & ODD or state.alarms else "good"
