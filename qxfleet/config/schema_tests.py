"""The tables of schedules and of battery tests, and their keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from qxfleet.config import targets
from qxfleet.config.cron import Cron
from qxfleet.config.durations import parse_duration
from qxfleet.config.findings import toml_text
from qxfleet.config.forms import Duration, Form, Name
from qxfleet.config.schema import NEEDED, Table, _key
from qxfleet.model.selftest import Rules

_RULES = Rules()


class TestLength(Form):
    """Which battery test: one of the two that have a name, or how long."""

    __test__ = False
    words = '"quick", "deep", or a duration, 12s to 99m'

    def read(self, value: object) -> str | float:
        """``quick``, ``deep`` or seconds."""
        if value in ("quick", "deep"):
            return str(value)
        if not isinstance(value, str) or not value[:1].isdigit():
            raise ValueError(f"expected {self.words}, found {toml_text(value)}")
        seconds = parse_duration(value)
        if not 12 <= seconds <= 5940:
            raise ValueError(f"expected {self.words}, found {toml_text(value)}")
        return seconds


class Zone(Form):
    """A time zone by its name."""

    words = 'name of a time zone, as in "Europe/Berlin"'

    def read(self, value: object) -> str:
        """The name."""
        from zoneinfo import ZoneInfo

        try:
            return ZoneInfo(value).key if isinstance(value, str) and value else _no_zone(self.words, value)
        except (KeyError, ValueError, OSError):
            return _no_zone(self.words, value)


def _no_zone(words: str, value: object) -> str:
    raise ValueError(f"expected the {words}, found {toml_text(value)}")


class ScheduleTable(Table):
    """Something done on a calendar; as often as there are schedules, in any file."""

    name: Annotated[str, Name()] = _key("", "what schedule run calls it", shown=NEEDED)
    do: Literal["test", "command", "report"] = _key("test", "battery tests, an instant command, or a report written to a file")
    cron: Annotated[str, Cron()] = _key("", "when: minute, hour, day, month, weekday", shown=NEEDED)
    timezone: Annotated[str, Zone()] = _key("UTC", "time zone of cron")
    targets: Annotated[tuple[str, ...], Field(strict=False)] = _key((), "the UPSes meant", shown=NEEDED, form=targets.WORDS)
    window: Annotated[float, Duration(60, 7 * 86400)] = _key(
        4 * 3600.0, "how long after its date something may still be started; what has not begun by then is not done"
    )
    missed: Literal["skip", "run"] = _key(
        "skip", "a date that passed while the agent was down: let it go, or make up for it if its window is still open"
    )
    test: Annotated[str | float, TestLength()] = _key("quick", "do = \"test\": which")
    depth: Annotated[int | None, Field(gt=0, le=80)] = _key(
        None, "do = \"test\": end it when so much of the battery's charge is taken out, in percent", shown="none",
        form="whole number above 0 up to 80",
    )  # fmt: skip
    max_parallel: Annotated[int | None, Field(gt=0, le=1000)] = _key(
        None, "do = \"test\": UPSes under test or recharging at the same time", shown="that of [tests]",
        form="whole number above 0 up to 1000",
    )  # fmt: skip
    command: str = _key("", "do = \"command\": which, as qxfleet commands lists them", shown="none")
    value: str = _key("", "do = \"command\": its value", shown="none")
    report: Literal["tests", "fleet"] = _key(
        "tests", "do = \"report\": results of tests, or how the fleet stands", shown="results of tests"
    )
    file: str = _key("", "do = \"report\": where it is written, as text, or as JSON if it ends in .json", shown="none")


class TestsTable(Table):
    """What must hold before a battery test begins, how many run, and what ends one; once, in any file."""

    __test__ = False
    mains_stable: Annotated[float, Duration(0, 30 * 86400)] = _key(
        _RULES.mains_stable_s,
        "mains within 15 % of nominal, without outage, bypass or loss of contact, for at least this long"
    )
    charged: Annotated[float, Duration(0, 30 * 86400)] = _key(
        _RULES.charged_s, "full and on float for at least this long"
    )
    charge: Annotated[float, Field(gt=0, le=100)] = _key(
        _RULES.charge_percent, "percent of charge that counts as full, where the UPS tells it"
    )
    load_steady: Annotated[float, Duration(0, 3600)] = _key(_RULES.load_steady_s, "the time over which the load must be steady")
    load_change: Annotated[float, Field(gt=0, le=100)] = _key(
        _RULES.load_change_percent, "how far the load may move before a test, and from its beginning during one, in percent"
    )
    load_least: Annotated[float, Field(ge=0, le=100)] = _key(
        _RULES.load_least_percent, "least load, in percent, at which a test is worth anything; 0: any",
        form="number from 0 up to 100",
    )  # fmt: skip
    no_alarm: bool = _key(_RULES.no_alarm, "no alarm of the UPS, no bypass, no overload, no ECO mode")
    partner_healthy: bool = _key(
        _RULES.partner_healthy, "every other feed of its loads is on line, charged, without alarm, and passed its last test"
    )
    no_maintenance: bool = _key(_RULES.no_maintenance, "not under maintenance, nor a partner of it")
    runtime_factor: Annotated[float, Field(ge=0, le=100)] = _key(
        _RULES.runtime_factor, "predicted runtime is at least this many times what the test will use; 0: any",
        form="number from 0 up to 100",
    )  # fmt: skip
    runtime_known: bool = _key(_RULES.runtime_known, "no test longer than a quick one where no runtime is known")
    again_after_failure: bool = _key(
        _RULES.again_after_failure, "test a battery again that failed its last test and was not replaced since"
    )
    max_parallel: Annotated[int | None, Field(gt=0, le=1000)] = _key(
        None, "UPSes under test or recharging at the same time, over all schedules", shown="a tenth of the wave, 4 at least",
        form="whole number above 0 up to 1000",
    )  # fmt: skip
    max_watts: Annotated[float, Field(ge=0, le=1e9)] = _key(
        _RULES.max_watts, "load of all UPSes under test at the same time, in watts; 0: any", form="number from 0"
    )
    recharge: Annotated[float, Duration(0, 7 * 86400)] = _key(
        _RULES.recharge_s, "how long a UPS counts as recharging after its test"
    )
    on_failure: Literal["group", "wave"] = _key(
        _RULES.on_failure, "a battery failed: leave alone what feeds the same loads, or end the whole wave"
    )
    warning_voltage: Annotated[float, Field(ge=0, le=3)] = _key(
        _RULES.warning_cell_v, "volts per cell at which a test is ended; 0: the low-battery flag only",
        form="number from 0 up to 3",
    )  # fmt: skip
    longest: Annotated[float, Duration(60, 5940)] = _key(
        _RULES.longest_s, "the end of a deep test that has not come to its own"
    )
