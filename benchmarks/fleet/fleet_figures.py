"""The figures of a farm with many nodes: what is promised of them, and the table that a person reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FleetFigures:
    """What one number of nodes came to."""

    nodes: int
    #: Accepted by the server.
    frames_per_s: float
    #: CPU milliseconds for each accepted frame.
    coordinator_ms: float
    server_ms: float
    redis_ms: float
    nodes_ms: float
    #: Largest resident memory of the coordinator, MB.
    memory_mb: float
    #: From the grant in the ledger to the order's arrival at its node, milliseconds.
    dispatch_p50_ms: float
    dispatch_p99_ms: float
    #: From the operator's request to the node that is told, milliseconds.
    cancel_p50_ms: float
    cancel_max_ms: float
    #: Heartbeats that the server answered.
    beats_per_s: float
    #: Beats without an answer, and leases that the server ended for want of one.
    missed_beats: int
    #: Anything a node met that it should not have.
    errors: dict[str, int]

    @property
    def frame_ms(self) -> float:
        """CPU milliseconds of everybody for one frame."""
        return self.coordinator_ms + self.server_ms + self.redis_ms + self.nodes_ms

    @property
    def limit_per_s(self) -> float:
        """Frames a second at that cost with every core busy all the time."""
        return (os.cpu_count() or 1) * 1000 / self.frame_ms


@dataclass(frozen=True, kw_only=True)
class ScalingFigures:
    """A row for each number of nodes, fewest first."""

    rows: tuple[FleetFigures, ...]
    #: One push and one blocking pop, one after the other, by one client of a Redis that has nothing else to do.
    redis_trips_per_s: float

    @property
    def growth(self) -> float:
        """What a frame costs the coordinator with the most nodes, in costs of one with the fewest."""
        return self.rows[-1].coordinator_ms / self.rows[0].coordinator_ms

    def table(self) -> str:
        """For a person."""
        lines = [
            f"{'':30}" + "".join(f"{row.nodes:>10}" for row in self.rows) + "     goal",
            *(_line(*entry, self.rows) for entry in _LINES),
            "",
            f"{'this machine, limits':30}",
            *(_line(*entry, self.rows) for entry in _LIMITS),
            f"{'bare Redis, messages/s':30}{self.redis_trips_per_s:10.0f}",
            f"{'cost of a frame, most / fewest':30}{self.growth:10.2f}   goal <= {FLAT_WITHIN:g}",
        ]
        return "\n".join(lines)

    def broken(self) -> list[str]:
        """The promises that did not hold."""
        found = [f"{self.growth:.2f} times the cost of a frame"] if self.growth > FLAT_WITHIN else []
        for row in self.rows:
            wrong = {
                f"{row.frames_per_s:.0f} frames/s": row.frames_per_s < FRAMES_GOAL,
                f"{row.memory_mb:.0f} MB": row.memory_mb >= MEMORY_GOAL_MB,
                f"{row.missed_beats} missed beats": row.missed_beats > 0,
                f"{row.errors}": bool(row.errors),
            }
            found += [f"{row.nodes} nodes: {what}" for what, is_wrong in wrong.items() if is_wrong]
        return found


#: Of everybody, on two cores.
FRAMES_GOAL = 100
MEMORY_GOAL_MB = 200
#: The coordinator's cost of a frame is flat when a hundred times the nodes make it at most this many times as dear.
FLAT_WITHIN = 1.5

_LINES: tuple[tuple[str, Callable[[FleetFigures], float], str, str], ...] = (
    ("frames/s, full cycle", lambda row: row.frames_per_s, ".0f", f">= {FRAMES_GOAL}"),
    ("coordinator, CPU ms a frame", lambda row: row.coordinator_ms, ".2f", ""),
    ("server, CPU ms a frame", lambda row: row.server_ms, ".2f", ""),
    ("Redis, CPU ms a frame", lambda row: row.redis_ms, ".2f", ""),
    ("nodes, CPU ms a frame", lambda row: row.nodes_ms, ".2f", ""),
    ("coordinator, peak MB", lambda row: row.memory_mb, ".0f", f"< {MEMORY_GOAL_MB}"),
    ("grant → order at node, p50 ms", lambda row: row.dispatch_p50_ms, ".0f", ""),
    ("grant → order at node, p99 ms", lambda row: row.dispatch_p99_ms, ".0f", ""),
    ("cancel → node, p50 ms", lambda row: row.cancel_p50_ms, ".0f", ""),
    ("cancel → node, max ms", lambda row: row.cancel_max_ms, ".0f", ""),
    ("heartbeats answered/s", lambda row: row.beats_per_s, ".0f", ""),
    ("missed heartbeats", lambda row: row.missed_beats, ".0f", "0"),
)
_LIMITS: tuple[tuple[str, Callable[[FleetFigures], float], str, str], ...] = (
    ("all cores busy, frames/s", lambda row: row.limit_per_s, ".0f", ""),
    ("measured / that limit", lambda row: row.frames_per_s / row.limit_per_s, ".2f", ""),
)


def _line(
    name: str, figure: Callable[[FleetFigures], float], shape: str, goal: str, rows: Sequence[FleetFigures]
) -> str:
    return f"{name:30}" + "".join(f"{figure(row):>10{shape}}" for row in rows) + (f"  {goal}" if goal else "")
