"""Whether a lab run can still come to its end: what the coordinator says of its PCs and sessions.

A heartbeat at the server proves nothing: frames that wait for a PC are beaten for as well. A sign of life is that a
frame at the server changes, or that a renderer says something new (its progress, its memory). Two things end a run at
once, for no waiting mends them: every PC is quarantined, or every session is disabled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

from sheepfold.config import read_secret_file

#: Asking costs the coordinator a few milliseconds.
LOOK_EVERY_S = 2.0
#: What ends a run has to last this long: pictures on their way arrive, and what comes next is told too.
SETTLES_S = 4.0
_ANSWER_S = 5.0


def coordinator_status(url: str, password_file: Path) -> dict[str, Any] | None:
    """``sheepfold status --json``, as the viewer; ``None`` while the coordinator does not answer."""
    try:
        password = read_secret_file(password_file, "SHEEPFOLD_VIEWER_PASSWORD")
        with requests.Session() as session:
            # A .netrc or a proxy of the environment must not answer for it.
            session.trust_env = False
            session.headers["authorization"] = f"Bearer {password}"
            answer = session.get(f"{url}/api/status", timeout=_ANSWER_S)
            return dict(answer.json()) if answer.ok else None
    except (requests.RequestException, ValueError):
        return None


class FarmWatch:
    """Looks at the farm of a run again and again.

    ``read`` gives the coordinator's status; ``say`` is told once of each PC that pauses, with its reason.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, Any] | None],
        say: Callable[[str], None],
        *,
        workers: int,
        stall_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._say, self._workers, self._stall_s, self._clock = read, say, workers, stall_s, clock
        self._status: Mapping[str, Any] = {"sessions": [], "nodes": []}
        self._look_at, self._changed_at = clock(), clock()
        self._sign: object = None
        #: Since when the same thing keeps the farm from rendering.
        self._ended: tuple[str, float] = ("", 0.0)
        self._said: set[tuple[str, str]] = set()

    def look(self, project: Mapping[str, Any] | None) -> None:
        """Takes note of how things stand; ``project`` as the server tells it, ``None`` while it does not answer."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            if (status := self._read()) is not None:
                self._status = status
                self._tell_pauses()
        sign = (project["changes"] if project else None, _renders(self._status))
        if sign != self._sign:
            self._sign, self._changed_at = sign, now
        end = self._end_of_all()
        if end != self._ended[0]:
            self._ended = (end, now)

    def verdict(self) -> str:
        """Why there is nothing to wait for any more; empty while there is."""
        now, (end, since) = self._clock(), self._ended
        if end and now >= since + SETTLES_S:
            return end
        if now >= self._changed_at + self._stall_s:
            return f"nothing has happened for {self._stall_s:.0f} s"
        return ""

    def lines(self) -> list[str]:
        """What is known of the PCs and sessions that explains it, a line each."""
        lines = [
            f"the server session of {session['name']} is {session['state']}: {session['notice']}"
            for session in self._status["sessions"]
            if session["state"] != "signed in"
        ]
        for node in self._status["nodes"]:
            what = "is quarantined" if node["quarantined"] else "is paused" if node["trouble"] else ""
            why = "; ".join([node["trouble"]] * bool(node["trouble"]) + node["strikes"])
            if what or why:
                lines.append(f"{node['name']} {what or 'had frames that went wrong'}: {why}")
            lines += [f"{node['name']}: frame {slot['frame']}, {slot['stage']}" for slot in node["busy"]]
        return lines

    def _end_of_all(self) -> str:
        sessions, nodes = self._status["sessions"], self._status["nodes"]
        if sessions and all(session["state"] == "disabled" for session in sessions):
            return "the server has disabled the session and gives no more frames"
        if len(nodes) >= self._workers and all(node["quarantined"] for node in nodes):
            return "every PC is quarantined"
        return ""

    def _tell_pauses(self) -> None:
        for node in self._status["nodes"]:
            pause = (node["name"], node["trouble"])
            if node["trouble"] and pause not in self._said:
                self._said.add(pause)
                self._say(f"{node['name']} is paused: {node['trouble']}")


def _renders(status: Mapping[str, Any]) -> tuple[tuple[object, ...], ...]:
    """A value that changes as long as some renderer makes progress."""
    return tuple(
        (slot["lease_id"], slot["attempt"], slot["stage"], slot["progress"], slot["remaining_s"], slot["memory_kb"])
        for node in status["nodes"]
        for slot in node["busy"]
    )
