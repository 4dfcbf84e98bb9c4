"""What became of every frame of a chaos run, told from both ends: the coordinator's ledger and the server's store.

Each figure, and what it is not:

granted         leases in the ledger. A grant whose answer never reached us is no lease; the server finds that out by
                itself and grants the frame again (*grants unheard*: the server's grants less the ledger's leases).
accepted ...    leases by their end.
lost            leases that have no end or ended as LOST, frames the server neither has nor was told to have failed, and
                leases called accepted whose picture the server does not hold. Must be 0.
accepted twice  frames with more than one ACCEPTED lease, and pictures at the server that changed after they were first
                seen. No two renders give the same bytes, so an exchange would show. Must be 0. A picture that is *sent*
                again because its answer was lost is no second acceptance (*uploads repeated*: answered 0, thrown away).
strange         pictures at the server that were not made by the attempt which the ledger says was accepted. Must be 0.
unfenced        renders in the scripted renderer's journal that passed no start-fence, or passed it twice. Must be 0.
expired         leases that the server ended because no beat came, less the grants unheard. Must be 0.
left behind     processes of renders that outlived their killed worker by a second. Must be 0.
wasted          renders that were started and did not become an accepted frame.

Recovery, in seconds:

worker          from its death until each frame it held was ordered from somebody again, or was delivered after all.
coordinator     from its new start until its LAN API answers, and until the next step in the ledger: with every slot in
                the middle of a render, that is when the first one ends.
redis           from its death until the first order sent after it was begun by a node; where no slot was free, or
                nothing was left to order, that takes until there was.
"""

from __future__ import annotations

import io
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.support.farm.faulty_farm import FaultyFarm, Project
from tests.support.farm.scripted_renderer import maker_of

ENDS = ("accepted", "refused", "cancelled", "failed", "lost")
#: A worker that is back before the farm has given it up at 15 s.
SOON_S = 15


@dataclass(frozen=True, kw_only=True)
class KillOutcome:
    """One process that was killed."""

    kind: str
    name: str
    #: Of a worker.
    node_id: str
    #: Unix seconds.
    at: float
    #: Planned seconds until its new start.
    away_s: float
    renderers_left: int
    #: Unix seconds of the new start, if there was one.
    started_at: float | None = None
    #: Of the coordinator: Unix seconds when its LAN API answered.
    answered_at: float | None = None

    @property
    def label(self) -> str:
        """The kind of fault."""
        if self.kind != "worker":
            return self.kind
        return "worker, back soon" if self.away_s < SOON_S else "worker, stays away"


@dataclass(frozen=True, kw_only=True)
class ChaosReport:
    """Everything a run is judged by."""

    #: Figures that must be zero.
    must_be_zero: dict[str, int]
    #: Figures that say how hard it was.
    others: dict[str, int]
    #: Kind of fault → how many, and the recoveries that could be measured (seconds).
    kills: dict[str, int]
    recoveries: dict[str, list[float]]
    faults: dict[str, int]
    took_s: float
    finished: bool

    def broken(self) -> list[str]:
        """The promises that did not hold."""
        broken = [f"{what}: {count}, must be 0" for what, count in self.must_be_zero.items() if count]
        return broken if self.finished else [f"the farm was not done after {self.took_s:.0f} s", *broken]

    def table(self) -> str:
        """All of it, for a terminal or a page."""
        page = Console(file=io.StringIO(), width=100)
        frames = Table("what", "count", title=f"{self.took_s:.0f} s, {sum(self.faults.values())} faults of the server")
        for what, count in (self.others | self.must_be_zero).items():
            frames.add_row(what, str(count) + (" (must be 0)" if what in self.must_be_zero else ""))
        page.print(frames)
        faults = Table("killed with -9", "times", "measured", "recovery: median s", "max s")
        for kind in sorted(self.kills.keys() | self.recoveries.keys()):
            seconds, times = self.recoveries.get(kind, []), self.kills.get(kind, "")
            figures = (f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}") if seconds else ("-", "-")
            faults.add_row(kind, str(times), str(len(seconds)), *figures)
        page.print(faults)
        return page.file.getvalue()  # type: ignore[attr-defined]


def read_books(
    farm: FaultyFarm,
    projects: Sequence[Project],
    killed: Sequence[KillOutcome],
    first_seen: Mapping[Path, int],
    *,
    took_s: float,
    finished: bool,
) -> ChaosReport:
    """Reads ledger, store and journals of a farm whose server still runs."""
    leases = farm.rows("SELECT id, job_id, frame, state, attempt, granted_at, ended_at FROM leases")
    attempts = farm.rows("SELECT * FROM attempts")
    accounting = farm.accounting()
    ends = Counter(lease["state"] for lease in leases)
    started = [attempt for attempt in attempts if attempt["started_at"]]
    unheard = accounting["grants"] - len(leases)
    changed = sum(hash(path.read_bytes()) != digest for path, digest in first_seen.items())
    zero = {
        "lost": _lost(farm, projects, leases),
        "accepted twice": _accepted_twice(leases) + changed,
        "strange": _strange(farm, projects, leases),
        "unfenced": _unfenced(projects, started),
        "expired": max(0, accounting["expiries"] - unheard),
        "left behind": sum(outcome.renderers_left for outcome in killed),
    }
    others = {"granted": len(leases), **{state: ends[state] for state in ENDS if state != "lost"}}
    others |= {"grants unheard": unheard, "uploads repeated": accounting["again"]}
    others |= {"renders started": len(started), "wasted": len(started) - ends["accepted"]}
    return ChaosReport(
        must_be_zero=zero,
        others=others,
        kills=dict(Counter(outcome.label for outcome in killed)),
        recoveries=_recoveries(killed, leases, attempts),
        faults=accounting["faults"],
        took_s=took_s,
        finished=finished,
    )


def _lost(farm: FaultyFarm, projects: Sequence[Project], leases: Sequence[Mapping[str, Any]]) -> int:
    without_end = sum(lease["state"] not in ENDS or lease["state"] == "lost" for lease in leases)
    missing, unaccounted = 0, 0
    for project in projects:
        frames = {int(row["frame"]): row["state"] for row in farm.at_server(project)["list"]}
        unaccounted += sum(state not in ("accepted", "failed") for state in frames.values())
        ours = {int(lease["frame"]) for lease in leases if _is_accepted(lease, project)}
        missing += sum(not farm.picture(project, frame).is_file() for frame in ours)
    return without_end + missing + unaccounted


def _accepted_twice(leases: Sequence[Mapping[str, Any]]) -> int:
    times = Counter((lease["job_id"], lease["frame"]) for lease in leases if lease["state"] == "accepted")
    return sum(count > 1 for count in times.values())


def _strange(farm: FaultyFarm, projects: Sequence[Project], leases: Sequence[Mapping[str, Any]]) -> int:
    strange = 0
    for project in projects:
        ours = {
            (int(lease["frame"]), lease["id"], lease["attempt"]) for lease in leases if _is_accepted(lease, project)
        }
        for picture in farm.picture(project, 1).parent.glob("*.png"):
            maker = maker_of(picture)
            if maker is not None and (int(picture.stem), maker.lease_id, maker.attempt) not in ours:
                strange += 1
    return strange


def _unfenced(projects: Sequence[Project], started: Sequence[Mapping[str, Any]]) -> int:
    allowed = {(row["lease_id"], row["attempt"]) for row in started}
    begun = Counter((start.lease_id, start.attempt) for project in projects for start in project.starts())
    return sum(count - (attempt in allowed) for attempt, count in begun.items())


def _is_accepted(lease: Mapping[str, Any], project: Project) -> bool:
    return lease["state"] == "accepted" and lease["job_id"] == str(project.id)


# Recoveries


def _recoveries(
    killed: Sequence[KillOutcome],
    leases: Sequence[Mapping[str, Any]],
    attempts: Sequence[Mapping[str, Any]],
) -> dict[str, list[float]]:
    steps = sorted(
        row[name]
        for row in (*attempts, *leases)
        for name in ("granted_at", "ordered_at", "started_at", "ended_at")
        if row.get(name)
    )
    found: dict[str, list[float]] = {}
    for outcome in killed:
        if outcome.kind == "worker":
            measured = {outcome.label: _of_worker(outcome, attempts)}
        elif outcome.kind == "redis":
            begun = [row["started_at"] for row in attempts if row["started_at"] and row["ordered_at"] > outcome.at]
            measured = {outcome.label: min(begun) - outcome.at if begun else None}
        else:
            measured = _of_coordinator(outcome, steps)
        for label, seconds in measured.items():
            if seconds is not None:
                found.setdefault(label, []).append(seconds)
    return found


def _of_coordinator(outcome: KillOutcome, steps: Sequence[float]) -> dict[str, float | None]:
    if outcome.started_at is None:
        return {}
    step = next((at for at in steps if at > outcome.started_at), None)
    return {
        outcome.label: outcome.answered_at - outcome.started_at if outcome.answered_at else None,
        f"{outcome.label}, next step": step - outcome.started_at if step else None,
    }


def _of_worker(outcome: KillOutcome, attempts: Sequence[Mapping[str, Any]]) -> float | None:
    """``None`` for a worker that held nothing."""
    ordered = {(row["lease_id"], row["attempt"]): row["ordered_at"] for row in attempts}
    whole_again = [
        # Taken back and ordered anew, or else it ended by itself: delivered after all, or cancelled.
        ordered.get((row["lease_id"], row["attempt"] + 1)) or row["ended_at"]
        for row in attempts
        if row["node_id"] == outcome.node_id
        and row["ordered_at"] < outcome.at
        and (row["ended_at"] is None or row["ended_at"] > outcome.at)
    ]
    seconds = [at - outcome.at for at in whole_again if at]
    return max(seconds) if seconds else None
