"""The page of settings: every field of the settings classes, with type, default and meaning."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from coordinator.operator.flower import FlowerSettings
from coordinator.settings import CoordinatorSettings, FarmSettings, default_state_dir
from lab.settings import AccountSettings, ServerSettings
from render_tasks.settings import WorkerSettings, default_node_name, default_work_dir
from sheepfold import config
from sheepfold.units import bytes_text

from .field_comments import described
from .markdown import NoDescription, code, page, plain, table

INTRODUCTION = """
Each setting is an environment variable `SHEEPFOLD_<NAME>`, or `<name>` in lower case in `sheepfold.toml` in the
working folder; the environment wins. A wrong one is told in one line that names it, with [exit code
2](exit-codes.md); a name that no command reads, with the likeliest one that was meant, as a warning at the start of
every command. Names below are without the prefix.
"""
#: Title → which commands read these, the class, and the class whose settings stand in a table of their own.
SECTIONS: tuple[tuple[str, str, type[BaseSettings], type[BaseSettings] | None], ...] = (
    ("Every command", "All but `worker`, `server`, `submit` and `lab`.", FarmSettings, None),
    ("Coordinator", "`sheepfold coordinator`, beside those of every command.", CoordinatorSettings, FarmSettings),
    ("Worker", "`sheepfold worker`.", WorkerSettings, None),
    ("Flower", "`sheepfold flower`, beside those of every command.", FlowerSettings, FarmSettings),
    ("Account at a lab server", "`sheepfold submit` and `sheepfold server`.", AccountSettings, None),
    ("Lab server", "`sheepfold server`, beside the account.", ServerSettings, AccountSettings),
)  # fmt: skip
#: A default that depends on the machine, in words.
COMPUTED: dict[Callable[[], Any], str] = {
    default_state_dir: "`~/.local/state/sheepfold`",
    default_work_dir: "`sheepfold/worker` in the user's cache folder",
    default_node_name: "the host's name",
    dict: "none",
}
MIB = 1024 * 1024
_TYPES = {
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    Path: "path",
    SecretStr: "secret",
    str: "text",
}


def page_text() -> str:
    """Every setting with type, default and description, read from the settings classes."""
    sections = [f"## {title}\n\n{read_by}\n\n{_table(kind, apart)}" for title, read_by, kind, apart in SECTIONS]
    return page("Settings", INTRODUCTION, *sections, _variables())


def _table(kind: type[BaseSettings], apart: type[BaseSettings] | None) -> str:
    names = [name for name in kind.model_fields if apart is None or name not in apart.model_fields]
    return table(("name", "value", "default", "meaning"), [_row(kind, name) for name in names])


def _row(kind: type[BaseSettings], name: str) -> tuple[str, str, str, str]:
    field = kind.model_fields[name]
    return code(name.upper()), _value(field), _default(kind, name, field), described(kind, name)


def _value(field: FieldInfo) -> str:
    bounds = ", ".join(_bounds(field))
    return _type_text(field.annotation) + (f", {bounds}" if bounds else "")


def _type_text(annotation: Any) -> str:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (inner,) = [part for part in typing.get_args(annotation) if part is not type(None)]
        return _type_text(inner)
    if typing.get_origin(annotation) is typing.Annotated:
        return _type_text(typing.get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(code(member.value) for member in annotation)
    if typing.get_origin(annotation) is tuple:
        return "words, separated by commas"
    if typing.get_origin(annotation) is dict:
        return "pairs"
    return _TYPES[annotation]


def _bounds(field: FieldInfo) -> Iterator[str]:
    parts = [part for part in typing.get_args(field.annotation) for part in getattr(part, "__metadata__", ())]
    for bound in (*field.metadata, *(item for part in parts for item in getattr(part, "metadata", ()))):
        if isinstance(bound, annotated_types.Ge):
            yield f"at least {bound.ge:.10g}"
        elif isinstance(bound, annotated_types.Gt):
            yield f"more than {bound.gt:.10g}"
        elif isinstance(bound, annotated_types.Le):
            yield f"at most {bound.le:.10g}"


def _default(kind: type[BaseSettings], name: str, field: FieldInfo) -> str:
    if field.default_factory is not None:
        if field.default_factory not in COMPUTED:
            raise NoDescription(f"{kind.__qualname__}.{name}: {__name__}.COMPUTED does not tell its default")
        return COMPUTED[field.default_factory]  # type: ignore[index]
    if field.default is PydanticUndefined:
        return "required"
    return _default_text(field.default)


def _default_text(default: Any) -> str:
    if default is None or default == () or default == "":
        return "unset"
    if isinstance(default, bool):
        return code(str(default).lower())
    if type(default) is int and default >= MIB and default % MIB == 0:
        return f"{code(default)} ({bytes_text(default)})"
    return code(
        f"{default:g}" if isinstance(default, float) else default.value if isinstance(default, Enum) else default
    )


def _variables() -> str:
    rows = [(code(name.upper()), plain(meaning)) for name, meaning in config.VARIABLES.items()]
    text = "Read from the environment alone, not from `sheepfold.toml`."
    return f"## Environment only\n\n{text}\n\n{table(('name', 'meaning'), rows)}"
