"""Write man pages and shell completions from the command line's own words: ``python scripts/manual.py [FOLDER]``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from qxfleet import __version__
from qxfleet.config.reference import TABLES, rows
from qxfleet.interfaces.cli.main import command_line

SHELLS = {"bash": "qxfleet", "zsh": "_qxfleet", "fish": "qxfleet.fish"}
"""The name of each shell's file, as its completion folder wants it."""

FILES = """\
.TP
.I /etc/qxfleet/qxfleet.toml
The configuration, see
.BR qxfleet.toml (5).
.TP
.I /var/lib/qxfleet/state.db
Readings and events, unless [agent] database names another place.
.TP
.I /run/qxfleet/agent.sock
The control socket; who may write to it may do everything.
"""


def roff(text: str) -> str:
    """Text as it must stand in a man page."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in plain)
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.splitlines())


def title(name: str, section: int, what: str) -> list[str]:
    """Head and name of a page; no date, so that the same words make the same page."""
    return [f'.TH {name.upper()} {section} "" "qxfleet {__version__}" "qxfleet"', ".SH NAME", f"{name} \\- {roff(what)}"]


def commands(group: Any, path: str = "qxfleet") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, in the order of the help."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


def usage(name: str, command: Any) -> str:
    """The name and what may follow it."""
    parts = ["[OPTIONS]"] if any(param.param_type_name == "option" for param in command.params) else []
    for param in command.params:
        if param.param_type_name == "argument":
            shown = param.metavar or param.name.upper()
            shown += "..." if param.nargs == -1 and "..." not in shown else ""
            parts.append(shown if param.required or shown.startswith("[") else f"[{shown}]")
    return " ".join([name, *parts])


def options(command: Any) -> Iterator[str]:
    """Arguments that are explained, and options."""
    for param in command.params:
        text = getattr(param, "help", None)
        if param.param_type_name == "argument":
            if text:
                yield from (".TP", f".I {roff(param.metavar or param.name.upper())}", roff(text))
            continue
        names = ", ".join((*param.opts, *param.secondary_opts))
        value = "" if param.is_flag else f" \\fI{roff(param.metavar or param.name.upper())}\\fR"
        yield from (".TP", f"\\fB{roff(names)}\\fR{value}", roff(text or ""))


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text, one line each."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        yield from ((".PP",) if number else ())
        yield roff(" ".join(paragraph.split()))


def qxfleet_1() -> str:
    """qxfleet(1)."""
    group = typer.main.get_command(command_line())
    help_text = str(group.help)
    lines = title("qxfleet", 1, help_text.partition(".")[0][0].lower() + help_text.partition(".")[0][1:])
    lines += [".SH SYNOPSIS", ".B qxfleet", "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGS\\fR]..."]
    lines += [".SH DESCRIPTION", *paragraphs(help_text), ".SH OPTIONS", *options(group), ".SH COMMANDS"]
    for name, command in commands(group):
        lines += [f".SS {roff(usage(name, command))}", *paragraphs(command.help or ""), *options(command)]
    lines += [".SH FILES", FILES.rstrip(), ".SH ENVIRONMENT", ".TP", ".B QXFLEET_CONFIG", "The configuration to use."]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR qxfleet.toml (5)", ""])


def qxfleet_toml_5() -> str:
    """qxfleet.toml(5)."""
    lines = title("qxfleet.toml", 5, "configuration of qxfleet")
    lines += [
        ".SH DESCRIPTION",
        *paragraphs(
            "A TOML file. Unknown keys, wrong types and values out of range are errors: qxfleet check lists all of them, each "
            'with its place and the remedy. Durations are texts with a unit (s, m, h, d), as in "30s".'
        ),
    ]
    for header, model in TABLES:
        lines += [f".SH {roff(header)}", *paragraphs(model.__doc__ or "")]
        for row in rows(model):
            lines += [".TP", f"\\fB{roff(row.key)}\\fR = {roff(row.default)}", f"{roff(row.meaning)}; {roff(row.form)}"]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR qxfleet (1)", ""])


def completion(shell: str) -> str:
    """The script that a shell reads to complete our commands and UPS names."""
    environment = {**os.environ, "_QXFLEET_COMPLETE": f"source_{shell}", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    program = [sys.executable, "-c", "import sys; sys.argv[0] = 'qxfleet'; from qxfleet.interfaces.cli.main import main; main()"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip() + "\n"


def write(folder: Path) -> None:
    """All of them below a folder that mirrors ``share/``."""
    pages = {"man/man1/qxfleet.1": qxfleet_1(), "man/man5/qxfleet.toml.5": qxfleet_toml_5()}
    scripts = {
        "bash": f"bash-completion/completions/{SHELLS['bash']}", "zsh": f"zsh/site-functions/{SHELLS['zsh']}",
        "fish": f"fish/vendor_completions.d/{SHELLS['fish']}",
    }  # fmt: skip
    for name, text in {**pages, **{path: completion(shell) for shell, path in scripts.items()}}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "share")
