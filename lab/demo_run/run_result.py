"""How a lab run ends: where the pictures are, or why they are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import RunFailed
from lab.submit.client import LabClient
from sheepfold.protocol.error_log import reason_in

from .frame_display import say, tell_failures


def tell_result(client: LabClient, project: Mapping[str, Any]) -> None:
    """Where the pictures are, and again what the person was told.

    Raises :class:`RunFailed` with the reasons where one is missing.
    """
    for note in project["notes"]:
        say(f"warning: {note}")
    missing = [frame["frame"] for frame in project["list"] if frame["state"] != "accepted"]
    if missing:
        failed = [frame["frame"] for frame in project["list"] if frame["state"] == "failed"]
        missed = f"{len(missing)} of {project['frames']} frames are missing: {', '.join(missing[:20])}"
        raise RunFailed(f"{project['state']}: {missed}\n{_reasons(client, project, failed)}")
    say(f"{project['accepted']} pictures: {project['folder']}")


def explained(client: LabClient, project: Mapping[str, Any] | None, farm: Sequence[str]) -> list[str]:
    """What the PCs did and what the server refused or was told, a line each."""
    lines = [f"  {line}" for line in farm]
    if project is None:
        return [*lines, "  the lab server does not answer"]
    wrong = [frame["frame"] for frame in project["list"] if frame["state"] != "accepted" and _has_log(frame)]
    why = _reasons(client, project, wrong) if wrong else f"logs: {Path(project['folder']).parents[3]}"
    return [*lines, f"  {project['accepted']} of {project['frames']} frames are done", why]


def _has_log(frame: Mapping[str, Any]) -> bool:
    return frame["errors"] + frame["refusals"] > 0


def _reasons(client: LabClient, project: Mapping[str, Any], frames: Sequence[str]) -> str:
    logs = Path(project["folder"]).with_name("logs")
    return tell_failures(frames, lambda frame: reason_in(client.error_log(project["id"], frame)), logs)
