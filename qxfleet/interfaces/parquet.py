"""Parquet files, written by pyarrow; without it, a StoreError that says what to install."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qxfleet.errors import StoreError

if TYPE_CHECKING:
    from qxfleet.store.series import Series

TEXTS = frozenset(
    ("ups", "ups.status", "ups.status.seen", "extra", "kind", "name", "value", "text", "severity", "phase", "actor", "sent",
     "outcome", "reply", "tier", "variable", "cause", "method", "battery", "type", "chemistry", "known", "note")
)  # fmt: skip
TIMES = frozenset(("time", "done", "ended", "begin", "end", "since", "until", "month", "made"))
COUNTS = frozenset(("id", "at_us", "readings", "minutes", "count"))


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise StoreError(f"Parquet needs {error.name}: pip install 'qxfleet[parquet]'") from error
    return pyarrow


def write_series(found: Series, path: Path) -> None:
    """One variable's points: time, min, mean, max, last, count; which UPS, variable, unit and width stands in the metadata."""
    arrow = _arrow()
    points = found.points
    columns = {
        "time": arrow.array([point.at_us for point in points], arrow.timestamp("us", tz="UTC")),
        **{
            name: arrow.array([getattr(point, name) for point in points], arrow.float64())
            for name in ("min", "mean", "max", "last")
        },
        "count": arrow.array([point.readings for point in points], arrow.int64()),
    }
    about = {"ups": found.ups, "variable": found.variable, "unit": found.unit, "every_s": str(found.every_s)}
    table = arrow.table(columns).replace_schema_metadata(about)
    with _writable(path):
        arrow.parquet.write_table(table, path, compression="zstd")


class Writer:
    """Rows of a view into one file, batch by batch; use as ``with``. ``texts`` names columns of text beside the known ones."""

    def __init__(self, path: Path, names: Sequence[str], texts: Collection[str] = ()) -> None:
        self._arrow = _arrow()
        self._names = list(names)
        self._texts = TEXTS.union(texts)
        self._schema = self._arrow.schema([(name, self._type(name)) for name in names])
        with _writable(path):
            self._file = self._arrow.parquet.ParquetWriter(path, self._schema, compression="zstd")

    def _type(self, name: str) -> Any:
        if name in TIMES:
            return self._arrow.timestamp("us", tz="UTC")
        if name in self._texts:
            return self._arrow.string()
        whole = name in COUNTS or name.endswith(".count")
        return self._arrow.int64() if whole else self._arrow.float64()

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows: times as datetimes, numbers as numbers, None where nothing is known."""
        columns = list(zip(*rows, strict=True)) or [()] * len(self._names)
        arrays = [self._arrow.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._file.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path} could not be written: {error.strerror or error}") from error
