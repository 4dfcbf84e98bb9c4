"""The farm's status as an operator reads it in a terminal."""

from __future__ import annotations

from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sheepfold.logs import printable
from sheepfold.units import bytes_text, duration_text


def print_status(status: dict[str, Any], console: Console | None = None) -> None:
    """Sessions, leases by state, and one row a slot; names and reasons from elsewhere do nothing to the terminal."""
    status = _printable(status)
    console = console or Console()
    for session in status["sessions"]:
        notice = f": {escape(session['notice'])}" if session["notice"] else ""
        console.print(f"[bold]{escape(session['name'])}[/bold] {session['state']}{notice}{_next_question(session)}")
    counts = ", ".join(f"{count} {what}" for what, count in status["frames"].items() if count)
    console.print(f"Frames: {counts or 'none yet'}{_left_at_the_server(status)}")
    console.print(_nodes_table(status["nodes"]))
    for node in status["nodes"]:
        if node["trouble"]:
            console.print(f"[bold red]{escape(node['name'])} takes nothing[/]: {escape(node['trouble'])}")
        elif node["no_blender"]:
            what = "gets only jobs that bring their own renderer"
            console.print(f"[bold]{escape(node['name'])}[/] {what}: {escape(node['no_blender'])}")
    for line in _sandbox_lines(status["nodes"]):
        console.print(line)
    for block in status["blocked"]:
        target = block["job_id"] + (f":{block['frame']}" if block["frame"] else "")
        console.print(
            f"[bold red]{escape(block['label'])} is blocked[/] by the {block['by']}: {escape(block['reason'])}; "
            f"to render it again: sheepfold unblock {escape(target)}"
        )
    for name in status["quarantined"]:
        console.print(
            f"[bold red]{escape(name)} is quarantined[/]: its frames go wrong; when it is mended: "
            f"sheepfold node release {escape(name)}"
        )


def _printable(part: Any) -> Any:
    if isinstance(part, str):
        return printable(part)
    if isinstance(part, dict):
        return {name: _printable(value) for name, value in cast("dict[str, Any]", part).items()}
    return [_printable(value) for value in cast("list[Any]", part)] if isinstance(part, list | tuple) else part


def _sandbox_lines(nodes: list[dict[str, Any]]) -> list[str]:
    """How well renderers are kept in: a line for each level, and one for each PC that has none."""
    levels: dict[str, list[str]] = {}
    for node in nodes:
        levels.setdefault(node["sandbox"] or "none", []).append(escape(node["name"]))
    without = levels.pop("none", [])
    if not without and len(levels) == 1:
        return [f"Renderers are kept in by {next(iter(levels))}"]
    lines = [f"Renderers are kept in by {level} on {', '.join(names)}" for level, names in sorted(levels.items())]
    for node in nodes:
        if escape(node["name"]) in without:
            why = f": {escape(node['sandbox_note'])}" if node["sandbox_note"] else ""
            lines.append(f"[bold]{escape(node['name'])}[/] renders without a sandbox{why}")
    return lines


def _left_at_the_server(status: dict[str, Any]) -> str:
    remaining, eta_s = status["frames_remaining"], status["eta_s"]
    if remaining is None:
        return ""
    eta = f", {duration_text(eta_s)} at this pace" if eta_s is not None and remaining else ""
    return f"; {remaining} left at the server{eta}"


def _next_question(session: dict[str, Any]) -> str:
    """When the server is asked for frames next."""
    if session["asked_in_s"] is None:
        return ""
    if not session["has_free_slot"]:
        return "; asks for frames when a slot is free"
    if session["asked_in_s"] < 1:
        return ""
    return f"; asks again in {duration_text(session['asked_in_s'])} (at once: sheepfold ask)"


def _nodes_table(nodes: list[dict[str, Any]]) -> Table:
    table = Table(
        "PC",
        "Slots",
        "Frame",
        "Job",
        "Stage",
        "Done",
        "Left",
        "Memory",
        title=f"{len(nodes)} PC{'' if len(nodes) == 1 else 's'}",
    )
    for node in nodes:
        slots = f"{sum(slot['stage'] == 'rendering' for slot in node['busy'])}/{node['slots']}"
        rows = node["busy"] or [None]
        resting = "paused" if node["trouble"] else "idle"
        for number, slot in enumerate(rows):
            head = (escape(node["name"]), slots) if number == 0 else ("", "")
            table.add_row(*head, *(_slot_cells(slot) if slot else ("", "", resting, "", "", "")))
    return table


def _slot_cells(slot: dict[str, Any]) -> tuple[str, ...]:
    done = "" if slot["progress"] is None else f"{slot['progress']:.0%}"
    left = "" if slot["remaining_s"] is None else duration_text(slot["remaining_s"])
    memory = "" if slot["memory_kb"] is None else bytes_text(slot["memory_kb"] * 1024)
    return escape(slot["frame"]), escape(slot["job_name"]), slot["stage"], done, left, memory
