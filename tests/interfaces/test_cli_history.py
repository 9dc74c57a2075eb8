"""``history`` and ``db export``: contract shapes, files that can be read, mistakes that are told."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from qxfleet.store.bulk import Backfill, Row
from qxfleet.store.migrate import upgrade
from qxfleet.store.tables import reading

T0_US = 1_760_054_400_000_000
T0, T1 = "2025-10-10T00:00", "2025-10-10T06:00"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose database holds four hours of one UPS, an hour of silence in them."""
    folder = tmp_path_factory.mktemp("history")
    url = f"sqlite:///{folder / 'fleet.db'}"
    upgrade(url)
    empty = [None] * (len(reading.columns) - 5)
    rows: list[Row] = [
        (1, T0_US + m * 60_000_000, 2 if m < 10 else 1, 0 if m < 10 else 2300 + m % 3, *empty, '{"output.current": 2.5}')
        for m in range(240)
        if not 60 <= m < 120
    ]
    with Backfill(url) as backfill:
        backfill.device_ids(["rack1-a"], T0_US)
        backfill.readings(rows)
    path = folder / "qxfleet.toml"
    path.write_text(
        '[agent]\ndatabase = "sqlite:///fleet.db"\ncontrol = "agent.sock"\n[[ups]]\nname = "rack1-a"\nport = "/dev/ttyS0"\n'
    )
    return path


def command(config: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "qxfleet", "--config", str(config), *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done


def test_json_is_the_contracts_shape(config: Path) -> None:
    done = command(config, "history", "rack1-a", "input.voltage", "--since", T0, "--until", T1, "--every", "1h", "--json")
    found = json.loads(done.stdout)
    assert {key: found[key] for key in ("ups", "variable", "unit", "every_s")} == {
        "ups": "rack1-a", "variable": "input.voltage", "unit": "V", "every_s": 3600,
    }  # fmt: skip
    assert [list(point) for point in found["points"]] == [["time", "min", "mean", "max", "count"]] * 3
    assert [point["time"] for point in found["points"]] == [f"2025-10-10T0{hour}:00:00.000Z" for hour in (0, 2, 3)]
    # ten minutes of nothing and fifty of 230.1 V on average: 2301 × 50 / 60 tenths of a volt
    assert found["points"][0]["count"] == 60
    assert found["points"][0]["min"] == 0
    assert found["points"][0]["mean"] == pytest.approx(191.75, abs=0.05)


def test_csv_and_parquet_hold_the_same(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "volts.parquet"
    done = command(config, "history", "rack1-a", "output.current", "--since", T0, "--until", T1, "--csv", "--parquet", file)
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert rows[0] == ["time", "min", "mean", "max", "count"]
    table = pyarrow.parquet.read_table(file)
    assert len(rows) - 1 == table.num_rows == 180
    assert table["mean"].to_pylist() == [float(row[2]) for row in rows[1:]] == [2.5] * 180
    assert table.schema.metadata[b"unit"] == b"A"


def test_a_list_marks_the_gap_and_the_status_has_spans(config: Path) -> None:
    time = ("--since", T0, "--until", T1)
    lines = command(config, "history", "rack1-a", "input.voltage", *time, "--every", "10m").stdout.splitlines()
    assert [index for index, line in enumerate(lines) if line == "…"] == [8]
    spans = command(config, "history", "rack1-a", "ups.status", *time).stdout.splitlines()
    assert [line.split("  ")[-1] for line in spans] == ["OB", "OL", "OL"]


def test_pictures_are_drawn_and_the_rest_does_not_load_what_draws(config: Path, tmp_path: Path) -> None:
    for name, head in (("volts.png", b"\x89PNG"), ("volts.svg", b"<?xml")):
        command(config, "history", "rack1-a", "input.voltage", "--since", T0, "--until", T1, "--plot", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(head)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_every_view_is_exported(config: Path, tmp_path: Path, form: str) -> None:
    done = command(config, "db", "export", tmp_path / form, "--format", form, "--json")
    written = {Path(each["file"]).name: each["rows"] for each in json.loads(done.stdout)["files"]}
    assert {f"reading.{form}", f"reading_minute.{form}", f"reading_day.{form}", f"event.{form}", f"order.{form}"} <= set(written)
    assert written[f"reading.{form}"] == written[f"reading_minute.{form}"] == 180
    if form == "parquet":
        table = pyarrow.parquet.read_table(tmp_path / form / "reading.parquet")
        assert table["input.voltage"].to_pylist()[:11] == [0.0] * 10 + [230.1]
        assert table["time"].to_pylist()[0].isoformat() == "2025-10-10T00:00:00+00:00"
    else:
        with (tmp_path / form / "reading.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert (len(rows), rows[10]["input.voltage"], rows[10]["time"]) == (180, "230.1", "2025-10-10T00:10:00.000Z")
        assert rows[0]["ups.status"] == "OB"
    command(config, "db", "export", tmp_path / form, "--format", form, code=1)


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["rack1-a", "input.volt"], 'did you mean "input.voltage"', 2),
        (["rack1-a", "ups.mfr"], "is a text", 1),
        (["rack9", "input.voltage"], "nothing of a UPS of this name is recorded", 1),
        (["rack1-a", "input.voltage", "--every", "5"], 'write "5s"', 2),
        (["rack1-a", "input.voltage", "--plot", "x.jpg"], "ends in .png or .svg", 2),
        (["rack1-a", "input.voltage", "--since", T1, "--until", T0], "a time before --until", 2),
    ],
)
def test_mistakes_are_told(config: Path, arguments: list[str], said: str, code: int) -> None:
    done = command(config, "history", *arguments, code=code)
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""
