"""The text that goes with an error report: its first line is the reason. Pure.

The specification leaves the text free. This farm says in the second line where a failure is the scene's on every PC;
our own server believes that line, any other shows it to people.
"""

from __future__ import annotations

SCENE_FAULT = "It is the scene's fault: every PC would fail it, and nothing more of this job is rendered."


def write_error_log(reason: str, renderer_log: str, *, is_scenes_fault: bool = False) -> str:
    """The text of a report: the reason, the line that says whether the scene is at fault, the renderer's log."""
    return f"{reason}\n{SCENE_FAULT if is_scenes_fault else ''}\n{renderer_log}"


def reason_in(text: str) -> str:
    """The reason in a report's text; empty where there is none."""
    return text.partition("\n")[0].strip()


def is_scenes_fault(text: str) -> bool:
    """Whether the report says that every PC would fail the job."""
    return text.split("\n", 2)[1:2] == [SCENE_FAULT]
