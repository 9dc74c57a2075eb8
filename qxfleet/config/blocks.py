"""The blocks of a file: ``[[name]]`` as often as wanted, ``[name]`` once over all files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from qxfleet.config.findings import Findings, Place, Source, toml_text


def blocks(source: Source, name: str, what: str, findings: Findings) -> Iterator[tuple[Place, Mapping[str, object]]]:
    """The blocks ``[[name]]`` of one file; ``what`` is what each of them describes."""
    found = source.tables.get(name, [])
    if not isinstance(found, list):
        findings.problem(Place(source, (name,)), f"expected [[{name}]], in double brackets, above each {what}")
        return
    for index, block in enumerate(found):
        place = Place(source, (name, index))
        if isinstance(block, dict):
            yield place, block
        else:
            findings.problem(place, f"expected a table, found {toml_text(block)}: write [[{name}]] above each {what}")


def single(sources: Iterable[Source], name: str, findings: Findings) -> tuple[Place, Mapping[str, object]] | None:
    """The table ``[name]``, which may stand once, in any file; None where there is none or it is no table."""
    first: tuple[Place, Mapping[str, object]] | None = None
    for source in sources:
        if name not in source.tables:
            continue
        place, table = Place(source, (name,)), source.tables[name]
        if not isinstance(table, dict):
            findings.problem(place, f"expected one table: write [{name}], once, and its settings below it")
        elif first is not None:
            findings.problem(place, f"[{name}] stands at {first[0].spot} already: write it once, in one of the files")
        else:
            first = (place, table)
    return first
