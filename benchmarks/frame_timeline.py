"""One scene's way through a whole farm, with the time of every step.

A lab server, a coordinator with its own Redis and one ``sheepfold worker`` run as real processes; they are up and idle
before the scene is submitted, and nothing of the scene is on the coordinator or the node. Times come from the
coordinator's ledger (grant, order, start-fence, delivery, acceptance) and from the worker's log (when each render began
and its picture was there), never from polling.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lab.submit.client import LabClient
from lab.submit.packing import PackedScene
from tests.support.farm.running_farm import RunningFarm, running_farm, wait_for

ROOT = Path(__file__).parents[1]

#: ``2026-11-25 01:02:03,456 INFO    render_tasks.orders.node: frame 0003 · demo rendered: 0.312 s, 140 MB, slot 1, 12
#: ms after the frame before``
_RENDERED = re.compile(
    r"^(\S+ \S+) INFO .*: frame (\S+) · .* rendered: ([\d.]+) s, \d+ MB, slot (\d+)(?:, (-?\d+) ms after)?", re.M
)
_STEPS = """
    SELECT leases.frame, granted_at, ordered_at, started_at, attempts.ended_at AS delivered_at,
           leases.ended_at AS accepted_at
    FROM leases JOIN attempts ON attempts.lease_id = leases.id WHERE leases.state = 'accepted' ORDER BY granted_at
"""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame; times are Unix seconds."""

    frame: str
    granted_at: float
    ordered_at: float
    #: The node passed the start-fence.
    started_at: float
    began_at: float
    picture_at: float
    delivered_at: float
    accepted_at: float
    slot: int
    #: Seconds from the picture before on the same slot; ``None``: the slot's first frame.
    gap_s: float | None


@dataclass(frozen=True, kw_only=True)
class FrameTimeline:
    """All frames of a scene, in the order in which they were granted."""

    frames: tuple[Frame, ...]
    slots: int

    @property
    def took_s(self) -> float:
        """First grant to last validation."""
        return max(frame.accepted_at for frame in self.frames) - min(frame.granted_at for frame in self.frames)

    @property
    def first_start_s(self) -> float:
        """Seconds a slot's first frame takes longer than others: Blender starts and reads the scene."""
        usual = statistics.median(frame.picture_at - frame.began_at for frame in self.frames)
        return max(frame.picture_at - frame.began_at for frame in self.frames) - usual

    @property
    def rendering_share(self) -> float:
        """Of the time from the first render's start to the last one's end, the part in which slots rendered."""
        whole = max(frame.picture_at for frame in self.frames) - min(frame.began_at for frame in self.frames)
        return sum(frame.picture_at - frame.began_at for frame in self.frames) / (whole * self.slots)

    def gaps_ms(self, *, ready_only: bool = False) -> list[float]:
        """Picture written → next frame begins; ``ready_only``: where the next order was past its fence by then."""
        return [
            frame.gap_s * 1000
            for frame in self.frames
            if frame.gap_s is not None and (not ready_only or frame.started_at < frame.began_at - frame.gap_s)
        ]

    def steps_s(self) -> dict[str, float]:
        """Where the time goes, from the first grant to the last validation; a slot's share of what is done by slots."""
        first = min(self.frames, key=lambda frame: frame.began_at)
        last = max(self.frames, key=lambda frame: frame.accepted_at)
        drawn = sum(frame.picture_at - frame.began_at for frame in self.frames) / self.slots
        steps = {
            "first grant → order sent": first.ordered_at - self.frames[0].granted_at,
            "order sent → start-fence": first.started_at - first.ordered_at,
            "start-fence → renderer begins": first.began_at - first.started_at,
            "Blender starts, reads the scene": self.first_start_s,
            "rendering": drawn - self.first_start_s,
            "slot idle between frames": sum(frame.gap_s or 0 for frame in self.frames) / self.slots,
            "last picture → delivered": last.delivered_at - last.picture_at,
            "delivered → validated": last.accepted_at - last.delivered_at,
        }
        return steps | {"slots out of step": self.took_s - sum(steps.values())}


@contextlib.contextmanager
def idle_farm(
    folder: Path,
    blender: str,
    *,
    slots: int,
    cores: int | None,
    environment: Mapping[str, str] | None = None,
    tls: bool = False,
) -> Iterator[RunningFarm]:
    """A farm that has nothing to do; it ends with the block. ``environment`` is added to that of all its parts.

    ``tls``: the worker joins by an invitation, and speaks to the coordinator over TLS.
    """
    settings = {"SHEEPFOLD_BLENDER": blender, "SHEEPFOLD_SLOTS": str(slots), **(environment or {})}
    if cores:
        settings["SHEEPFOLD_CORES"] = str(cores)
    with running_farm(folder, environment=settings) as farm:
        farm.start_server()
        farm.start_coordinator()
        invitation = {"SHEEPFOLD_JOIN": farm.run("node", "invite").stdout.strip()} if tls else {}
        farm.start_worker("pc-01", **invitation)
        wait_for("the worker takes orders", lambda: "ready." in farm.log_of("pc-01").read_text(), 30)
        wait_for("the coordinator sees it", lambda: farm.status()["nodes"], 30)
        yield farm


def send_through(farm: RunningFarm, scene: PackedScene, *, frames: int, slots: int, limit_s: float) -> FrameTimeline:
    """Submits the scene and waits for its last frame."""
    fields = {"name": "bench", "frames": f"1-{frames}", "scene": scene.scene}
    LabClient(farm.server_url, farm.login, farm.password).submit(scene.path, fields)
    wait_for(f"{frames} frames are validated", lambda: farm.status()["accepted"] == frames, limit_s)
    return FrameTimeline(frames=tuple(_frames(farm)), slots=slots)


def _frames(farm: RunningFarm) -> Iterator[Frame]:
    drawn = {found[2]: found for found in _RENDERED.finditer(farm.log_of("pc-01").read_text("utf-8"))}
    path = farm.folder / "coordinator" / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as ledger:
        ledger.row_factory = sqlite3.Row
        for row in ledger.execute(_STEPS):
            found = drawn[row["frame"]]
            picture_at = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
            yield Frame(
                **dict(row),
                began_at=picture_at - float(found[3]),
                picture_at=picture_at,
                slot=int(found[4]),
                gap_s=int(found[5]) / 1000 if found[5] else None,
            )
