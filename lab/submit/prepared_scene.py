"""A scene before it is sent: looked at, its frames known, and everything told that a person should know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.archive_names import one_line
from lab.errors import BadFrameRange, BadInput, BadScene
from lab.frame_range import parse_frames
from lab.project_rules import MAX_NOTE, MAX_NOTES, Compute
from lab.submit.scene.facts import SceneFacts, read_scene
from lab.submit.scene.notes import notes_on, picture_size, refuse_hopeless


@dataclass(frozen=True, kw_only=True)
class PreparedScene:
    """What is promised to the server about a scene."""

    blend: Path
    facts: SceneFacts
    #: As people write them: ``1-100x5``.
    frames: str
    #: The scene's own range, as nobody named any.
    frames_are_its_own: bool
    compute: Compute
    #: One line each: what comes out otherwise than the scene says.
    notes: tuple[str, ...]

    def fields(self, name: str, scene_path: str, warnings: Sequence[str] = ()) -> dict[str, str]:
        """The form that goes to the server with the packed scene; ``warnings`` came up while it was packed."""
        notes = [*self.notes, *warnings]
        if len(notes) > MAX_NOTES:
            notes[MAX_NOTES - 1 :] = [f"and {len(notes) - MAX_NOTES + 1} more of that kind"]
        width, height = picture_size(self.facts)
        return {
            "name": name,
            "frames": self.frames,
            "scene": scene_path,
            "compute": self.compute.value,
            "width": str(width),
            "height": str(height),
            "notes": "\n".join(note[:MAX_NOTE] for note in notes),
        }


def prepare_scene(blend: Path, frames: str = "", compute: str = "cpu") -> PreparedScene:
    """Look at a scene; takes a second for a large one, and starts nothing.

    ``frames`` empty: the scene's own. Raises :class:`~lab.errors.BadInput` for what is wrong with the wishes, and
    :class:`~lab.errors.BadScene` where the scene cannot work.
    """
    wanted = _compute(compute)
    if frames.strip():
        parse_frames(frames)
    if not blend.is_file():
        what = "a folder" if blend.is_dir() else "not there"
        raise BadScene(f"{one_line(str(blend))} is {what}; it has to be a .blend file")
    facts = read_scene(blend)
    refuse_hopeless(facts)
    chosen = frames.strip() or own_frames(facts)
    return PreparedScene(
        blend=blend,
        facts=facts,
        frames=chosen,
        frames_are_its_own=not frames.strip(),
        compute=wanted,
        notes=notes_on(facts, _parsed(chosen, is_own=not frames.strip())),
    )


def own_frames(facts: SceneFacts) -> str:
    """The scene's start, end and step as a frame range."""
    if facts.last_frame <= facts.first_frame:
        return str(facts.first_frame)
    step = f"x{facts.frame_step}" if facts.frame_step > 1 else ""
    return f"{facts.first_frame}-{facts.last_frame}{step}"


def _parsed(frames: str, *, is_own: bool) -> tuple[int, ...]:
    try:
        return parse_frames(frames)
    except BadFrameRange as error:
        if is_own:
            raise BadScene(f"the scene's own frames cannot be taken ({error}): name some with --frames") from None
        raise


def _compute(text: str) -> Compute:
    try:
        return Compute(text)
    except ValueError:
        raise BadInput(f"--compute {text[:20]!r}: it is cpu, gpu or either") from None
