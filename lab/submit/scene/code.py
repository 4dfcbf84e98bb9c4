"""What of a scene is code that a farm does not run: Python drivers, registered texts, and other people's add-ons.

A farm's Blender runs without the scripts of a file (``--disable-autoexec``) and with factory settings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .blend_file import Blend, Block

_SCRIPTED = 1  # ChannelDriver.type
_REGISTERED = 1 << 4  # Text.flags
_ONE, _TWO, _THREE, _SOME = range(1, 2), range(2, 3), range(3, 4), range(1, 100)
#: What Blender computes by itself, without Python, and of how many values.
_FUNCTIONS = {
    "min": _SOME, "max": _SOME, "radians": _ONE, "degrees": _ONE, "abs": _ONE, "fabs": _ONE, "floor": _ONE,
    "ceil": _ONE, "trunc": _ONE, "round": _ONE, "int": _ONE, "sin": _ONE, "cos": _ONE, "tan": _ONE, "asin": _ONE,
    "acos": _ONE, "atan": _ONE, "atan2": _TWO, "exp": _ONE, "log": range(1, 3), "sqrt": _ONE, "pow": _TWO,
    "fmod": _TWO, "lerp": _THREE, "clamp": range(1, 4, 2), "smoothstep": _THREE,
}  # fmt: skip
#: Numbers as only Python writes them.
_PYTHON_NUMBER = re.compile(r"\b0[xXoObB]|\d_\d")
_NAMES = {"frame", "pi", "True", "False"}
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
#: Drivers compute without Python since then.
_FIRST_WITH_SIMPLE = (2, 80)

_STOCK_TREES = {"ShaderNodeTree", "CompositorNodeTree", "GeometryNodeTree", "TextureNodeTree"}
_STOCK_NODES = ("ShaderNode", "CompositorNode", "GeometryNode", "FunctionNode", "TextureNode", "Node")


def python_drivers(blend: Blend) -> tuple[str, ...]:
    """Expressions of drivers that need Python, each once."""
    found: list[str] = []
    for driver in blend.structures("ChannelDriver"):
        if driver.number(b"type") != _SCRIPTED:
            continue
        expression = driver.text(b"expression")
        names = {variable.text(b"name") for variable in driver.listed(b"variables")}
        if expression.strip() and not (blend.version >= _FIRST_WITH_SIMPLE and is_simple(expression, names)):
            found.append(expression.strip())
    return tuple(dict.fromkeys(found))


def is_simple(expression: str, variables: set[str]) -> bool:
    """Whether Blender computes it without Python: arithmetic, comparisons and its own functions."""
    if _PYTHON_NUMBER.search(expression):
        return False
    try:
        parsed = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return _is_simple(parsed, _NAMES | variables)


def _is_simple(node: ast.expr, names: set[str]) -> bool:
    match node:
        case ast.Constant():
            return isinstance(node.value, (int, float))
        case ast.Name():
            return node.id in names
        case ast.UnaryOp():
            return isinstance(node.op, (ast.USub, ast.UAdd, ast.Not)) and _is_simple(node.operand, names)
        case ast.BinOp() if not isinstance(node.op, _OPERATORS):
            return False
        case ast.Compare() if not all(isinstance(operator, _COMPARISONS) for operator in node.ops):
            return False
        case ast.Call():
            takes = _FUNCTIONS.get(node.func.id, ()) if isinstance(node.func, ast.Name) else ()
            if node.keywords or len(node.args) not in takes:
                return False
            return all(_is_simple(argument, names) for argument in node.args)
        case ast.BinOp() | ast.BoolOp() | ast.Compare() | ast.IfExp():
            return all(_is_simple(child, names) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))
        case _:
            return False


def registered_texts(blend: Blend) -> tuple[str, ...]:
    """Texts that Blender runs as modules when it opens the file."""
    texts = [text for text in blend.blocks(b"TX") if text.number(b"flags") & _REGISTERED]
    return tuple(text.name for text in texts if text.name.lower().endswith(".py"))


def foreign_nodes(blend: Blend) -> tuple[str, ...]:
    """Kinds of node trees and nodes that Blender itself does not have, each once."""
    return tuple(sorted(set(_foreign(blend.structures("bNodeTree", "bNode")))))


def _foreign(structures: Iterator[Block]) -> Iterator[str]:
    for found in structures:
        kind = found.text(b"idname")
        stock = kind in _STOCK_TREES if found.type == "bNodeTree" else kind.startswith(_STOCK_NODES)
        if kind and not stock:
            yield kind
