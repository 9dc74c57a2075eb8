"""The line of every key, checked on texts written with their lines known."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from qxfleet.config.places import Path, key_lines

KEYS = ("a", "b-c", "d_1", "7", "æ", "x y", "p.q", "#", "[", "]]", "=", 'say "x"')
VALUES = (
    "1", "-2.5e3", "true", '"text"', '"# no comment"', '"]"', "'[[ups]]'", '"a \\" b"', '""', "''", '"""', "'''",
    "[1, 2]", "[ # ]\n 1,\n [2, ']'],\n]", '{ a = 1, "b" = "}" }', "{ c = [1, { d = 2 }] }", "2024-01-01 10:00:00",
    '"""\nname = 1\n[[ups]]\n"""', "'''\n\"\"\"\n[x]'''", '"""a\\\n   b"""', '"""four""""', "'''five'''''", '"\\\\"',
)  # fmt: skip


def quoted(key: str) -> str:
    if key.isascii() and key.replace("-", "").replace("_", "").isalnum():
        return key
    return f"'{key}'" if '"' in key else f'"{key}"'


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, dict[Path, int]]:
    """A TOML text and the line of each of its keys."""
    lines: list[str] = []
    places: dict[Path, int] = {}

    def write_keys(path: Path) -> None:
        for key in draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=4)):
            value = draw(st.sampled_from([value for value in VALUES if value not in ('"""', "'''")]))
            below = draw(st.lists(st.sampled_from(("k", "l m")), max_size=2))
            number = "\n".join(lines).count("\n") + 2 if lines else 1
            for end in range(len(below) + 1):
                places[(*path, key, *below[:end])] = number
            dotted = draw(st.sampled_from([".", " . "])).join(map(quoted, (key, *below)))
            before, behind = draw(st.sampled_from(["", "  "])), draw(st.sampled_from(["", " # c = 1 ]"]))
            lines.append(f"{before}{dotted} = {value}{behind}")
            lines.extend(draw(st.lists(st.sampled_from(["", "# a comment = [1", "   "]), max_size=2)))

    def write_header(path: Path, header: str) -> None:
        places[path] = "\n".join(lines).count("\n") + 2 if lines else 1
        lines.append(header + draw(st.sampled_from(["", " # [x]"])))

    write_keys(())
    count = draw(st.integers(0, 3))
    for index in range(count):
        write_header(("ups", index), draw(st.sampled_from(["[[ups]]", " [[ ups ]]", "[['ups']]", '[["\\u0075ps"]]'])))
        write_keys(("ups", index))
        if draw(st.booleans()):
            write_header(("ups", index, "below", "deeper"), "[ups.below.deeper]")
            write_keys(("ups", index, "below", "deeper"))
    return "\n".join(lines), places


@given(texts())
def test_every_key_has_its_line(case: tuple[str, dict[Path, int]]) -> None:
    text, places = case
    tomllib.loads(text)
    found = key_lines(text)
    assert {path: found.get(path) for path in places} == places


def test_nothing_inside_values_is_taken_for_a_key() -> None:
    text = 'a = """\nb = 1\n[c]\n"""\nd = [\n  "e = 1", # f = 1\n  { g = 1 },\n]\nh = 1\n'
    assert key_lines(text) == {("a",): 1, ("d",): 5, ("h",): 9}
