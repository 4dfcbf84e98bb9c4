"""How a lab run shows its frames: a bar on a terminal, one line per frame anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sheepfold.units import duration_text

_console = Console(stderr=True)
#: Said once per frame and state, by what it means to a person.
_WORDS = {"accepted": "done", "failed": "FAILED"}
_SHOWN_AT_ONCE = 6
#: Each is a request to the server; frames of a scene mostly fail for the same reason.
_REASONS_ASKED_FOR = 40


def say(text: str) -> None:
    """One line for a person; addresses and paths are never wrapped or coloured in the middle."""
    _console.print(text, soft_wrap=True, markup=False, highlight=False)


class FrameDisplay:
    """Shows how far one project is, as often as :meth:`show` is called; a context manager."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._seen: dict[str, str] = {}

    def __enter__(self) -> FrameDisplay:
        if _console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[now]}", markup=False), console=_console)
            self._task = self._bar.add_task("frames", total=None, now="waiting for the first frame")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, project: Mapping[str, Any]) -> None:
        """The project as ``/api/projects/ID`` tells it."""
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, total=project["frames"], completed=project["accepted"], now=_now_rendering(project)
            )
            return
        for frame in project["list"]:
            state = str(frame["state"])
            if state in _WORDS and self._seen.get(frame["frame"]) != state:
                self._seen[frame["frame"]] = state
                done = sum(1 for seen in self._seen.values() if seen == "accepted")
                seconds = f" ({duration_text(frame['render_s'])})" if frame["render_s"] is not None else ""
                say(f"frame {frame['frame']} {_WORDS[state]}{seconds}   {done}/{project['frames']}")


def _now_rendering(project: Mapping[str, Any]) -> str:
    leased = [frame["frame"] for frame in project["list"] if frame["state"] == "leased"]
    failed = f"   {project['failed']} failed" if project["failed"] else ""
    more = " …" if len(leased) > _SHOWN_AT_ONCE else ""
    eta_s = project.get("eta_s")
    left = f"   {duration_text(eta_s)} left" if eta_s else ""
    return (f"rendering {', '.join(leased[:_SHOWN_AT_ONCE])}{more}" if leased else "") + failed + left


def tell_failures(failed: Sequence[str], reason_of: Callable[[str], str], logs: Path) -> str:
    """Why frames failed, one line a reason, and where their logs are; the reasons of the first frames are asked for."""
    reasons: dict[str, list[str]] = {}
    for frame in failed[:_REASONS_ASKED_FOR]:
        reasons.setdefault(reason_of(frame) or "no reason was given", []).append(frame)
    lines = [f"  {_frames_of(frames)}: {reason}" for reason, frames in reasons.items()]
    if len(failed) > _REASONS_ASKED_FOR:
        lines.append(f"  and {len(failed) - _REASONS_ASKED_FOR} more frames")
    return "\n".join([*lines, f"logs: {logs}"])


def _frames_of(frames: Sequence[str]) -> str:
    shown = ", ".join(frames[:_SHOWN_AT_ONCE]) + (" …" if len(frames) > _SHOWN_AT_ONCE else "")
    return f"frame{'' if len(frames) == 1 else 's'} {shown}"
