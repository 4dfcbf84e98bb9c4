"""The page of commands, from the Typer application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from coordinator.access.roles import PEOPLE
from coordinator.access.routes import ROUTES
from sheepfold.cli import app

from .markdown import NoDescription, code, page, plain, table

INTRODUCTION = """
`sheepfold COMMAND --help` prints the same. What a command needs to know beside its options comes from
[settings](settings.md); how it ends is in [Exit codes](exit-codes.md).
"""


def page_text() -> str:
    """Every command with its arguments and options, as the Typer application knows them."""
    root = typer.main.get_command(app)
    return page("Commands", INTRODUCTION, _options_of(root), *(_section(path, command) for path, command in _all(root)))


def _all(group: Any, path: str = "sheepfold") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its whole name."""
    for name, command in getattr(group, "commands", {}).items():
        whole = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _all(command, whole)
        else:
            yield whole, command


def _section(path: str, command: Any) -> str:
    if not command.help:
        raise NoDescription(f"{path} has no help text")
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join([path, *(_argument_name(argument) for argument in arguments)])
    paragraphs = "\n\n".join(plain(text) for text in command.help.split("\n\n"))
    parts = (f"## {code(usage)}", paragraphs, _needs(path), _arguments(arguments), _options_of(command))
    return "\n\n".join(part for part in parts if part)


def _needs(path: str) -> str:
    """Which role of people a command is for."""
    name = path.removeprefix("sheepfold ")
    roles = [route.role for route in ROUTES if name in route.commands and route.role in PEOPLE]
    return f"For {' and '.join(roles)}: [Who may do what](../how-to/roles.md)." if roles else ""


def _argument_name(argument: Any) -> str:
    return argument.metavar or str(argument.name).upper()


def _arguments(arguments: list[Any]) -> str:
    rows = [(code(_argument_name(argument)), _help(argument)) for argument in arguments]
    return table(("argument", "meaning"), rows) if rows else ""


def _options_of(command: Any) -> str:
    options = [
        parameter
        for parameter in command.params
        if parameter.param_type_name == "option" and "--help" not in parameter.opts
    ]
    rows = [
        (code(", ".join((*option.opts, *option.secondary_opts))), _default(option), _help(option)) for option in options
    ]
    return table(("option", "default", "meaning"), rows) if rows else ""


def _default(option: Any) -> str:
    """Flags are off by default; what else has no value says in its help what follows from that."""
    return "" if option.is_flag or option.default in (None, "", ()) else code(option.default)


def _help(parameter: Any) -> str:
    text = getattr(parameter, "help", None)
    if not text:
        raise NoDescription(f"{parameter.name} of a command has no help text")
    return plain(text)
