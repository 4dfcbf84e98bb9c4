"""The picture of the lease's states, drawn from the table of transitions; and the same as Mermaid source.

The active states stand in a row inside a frame. What leads from every one of them to the same end is one arrow from the
frame; steps back are arcs above the row, steps that pass a state over are arcs below it. The ends stand to the right.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.leases.lease import ACTIVE, ENDED, TRANSITIONS, LeaseState

#: Pixels: a state's box, the gap between two boxes, the upper edge of the row, the height of the picture.
BOX_W, BOX_H, GAP, ROW_Y, HEIGHT = 104, 34, 76, 190, 400
#: Left edge of the row and of the ends.
ROW_X, ENDS_X = 40, 820
WIDTH = ENDS_X + BOX_W + 30
_STYLE = """
  text { font: 13px sans-serif; text-anchor: middle; fill: #222 } .event { font-size: 11px; fill: #555 }
  rect { fill: #e0f2f1; stroke: #00695c } .end { fill: #eee; stroke: #555 } .frame { fill: none; stroke-dasharray: 4 4 }
  path { fill: none; stroke: #555; marker-end: url(#arrow) } .paper { fill: #fff; stroke: none }
"""
_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<polygon points="0,0 8,4 0,8" fill="#555"/></marker></defs>'
)

#: What stands around the Mermaid source on a page.
_BEGIN, _END = "```mermaid\n", "\n```\n<!-- end -->"

_ROW = [state for state in LeaseState if state in ACTIVE]
_COLUMN = [state for state in LeaseState if state in ENDED]


def svg() -> str:
    """The states of a lease and the steps between them, drawn from its transition table."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    paper = f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>'
    parts = [head, f"<style>{_STYLE}</style>", _ARROW, paper, _frame(), *_boxes(), *_arrows(), "</svg>"]
    return "\n".join(parts) + "\n"


def with_mermaid(page: str) -> str:
    """The page with the table as a Mermaid state diagram where it has one."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    return f"{before}{begin}{mermaid()}{end}{after}"


def mermaid() -> str:
    """One arrow for all events between the same two states."""
    order, events = list(LeaseState).index, _events()
    lines = ["stateDiagram-v2", f"    [*] --> {LeaseState.GRANTED.value}"]
    for before, after in sorted(events, key=lambda pair: (order(pair[0]), order(pair[1]))):
        lines.append(f"    {before.value} --> {after.value}: {events[before, after]}")
    return "\n".join([*lines, *(f"    {state.value} --> [*]" for state in _COLUMN)])


def _events() -> dict[tuple[LeaseState, LeaseState], str]:
    """(before, after) → the events between them, in words."""
    found: dict[tuple[LeaseState, LeaseState], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        found.setdefault((before, after), []).append(event.value)
    return {pair: ", ".join(events) for pair, events in found.items()}


def _left_of(state: LeaseState) -> tuple[int, int]:
    """The upper left corner of a state's box."""
    if state in _ROW:
        return ROW_X + _ROW.index(state) * (BOX_W + GAP), ROW_Y
    return ENDS_X, 28 + _COLUMN.index(state) * 74


def _frame_edges() -> tuple[int, int, int, int]:
    """Left, upper, right and lower edge of the frame around the row."""
    return ROW_X - 20, 30, ROW_X + len(_ROW) * (BOX_W + GAP) - GAP + 20, HEIGHT - 30


def _frame() -> str:
    left, upper, right, lower = _frame_edges()
    box = f'<rect class="frame" x="{left}" y="{upper}" width="{right - left}" height="{lower - upper}" rx="10"/>'
    return f'{box}<text class="event" x="{left + 70}" y="{upper + 18}">any active state</text>'


def _boxes() -> Iterator[str]:
    for state in LeaseState:
        x, y = _left_of(state)
        style = "end" if state in ENDED else "active"
        yield f'<rect class="{style}" x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="6"/>'
        yield f'<text x="{x + BOX_W // 2}" y="{y + BOX_H // 2 + 5}">{state.value}</text>'


def _arrows() -> Iterator[str]:
    events = _events()
    for end in _COLUMN:
        ways = {events.get((state, end), "") for state in _ROW}
        if len(ways) == 1:
            yield _from_frame(end, ways.pop())
            events = {pair: text for pair, text in events.items() if pair[1] is not end}
    for (before, after), text in events.items():
        yield _to_end(before, after, text) if after in ENDED else _in_row(before, after, text)


def _from_frame(end: LeaseState, text: str) -> str:
    x, y = _left_of(end)
    edge, middle = _frame_edges()[2], y + BOX_H // 2
    return _path(f"M {edge} {middle} L {x} {middle}", text, (edge + x) // 2, middle - 6)


def _to_end(before: LeaseState, end: LeaseState, text: str) -> str:
    x, y = _left_of(end)
    start, middle = _left_of(before)[0] + BOX_W, y + BOX_H // 2
    edge = _frame_edges()[2]
    return _path(f"M {start - 20} {ROW_Y} L {edge} {middle} L {x} {middle}", text, (edge + x) // 2, middle - 6)


def _in_row(before: LeaseState, after: LeaseState, text: str) -> str:
    steps = _ROW.index(after) - _ROW.index(before)
    if steps == 1:
        start, end, middle = _left_of(before)[0] + BOX_W, _left_of(after)[0], ROW_Y + BOX_H // 2
        return _path(f"M {start} {middle} L {end} {middle}", text, (start + end) // 2, middle - 6)
    start, end = _left_of(before)[0] + BOX_W // 2, _left_of(after)[0] + BOX_W // 2
    base, height = (ROW_Y, 48 * steps) if steps < 0 else (ROW_Y + BOX_H, 48 * steps)
    curve = f"M {start + 12} {base} C {start} {base + height} {end} {base + height} {end - 12} {base}"
    return _path(curve, text, (start + end) // 2, base + height * 3 // 4 + (-6 if steps < 0 else 14))


def _path(line: str, text: str, x: int, y: int) -> str:
    return f'<path d="{line}"/><text class="event" x="{x}" y="{y}">{text}</text>'
