"""What a person is told of a scene before it is sent: what comes out otherwise, and what cannot work. Pure.

Each line says what happens and what to do. What the farm cannot bring back as it is, and a person has to decide, is
refused with the cure (:class:`~lab.errors.BadScene`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.errors import BadScene
from lab.project_rules import KEPT_FORMATS

from .facts import MOVIES, SceneFacts, Views

#: Blender's own engines, by the names that files of its versions have for them.
STOCK_ENGINES = {"CYCLES", "BLENDER_EEVEE", "BLENDER_EEVEE_NEXT", "BLENDER_WORKBENCH", "BLENDER_WORKBENCH_NEXT"}
#: Gone since 2.80; a newer Blender takes Eevee instead.
OLD_ENGINES = {"BLENDER_RENDER": "Blender Internal", "BLENDER_GAME": "the game engine"}
_EXR = ("OPEN_EXR", "OPEN_EXR_MULTILAYER")
_NAMED_AT_ONCE = 5


def refuse_hopeless(facts: SceneFacts) -> None:
    """Raises :class:`~lab.errors.BadScene` where no frame of the scene could come back."""
    if facts.border and (facts.border[1] <= facts.border[0] or facts.border[3] <= facts.border[2]):
        raise BadScene("the render region is empty: draw one (Ctrl+B in the camera view), or switch Render Region off")
    if facts.border and facts.uses_sequencer:
        raise BadScene("Blender renders no region of the video sequencer: switch Render Region or Sequencer off")
    if facts.width < 1 or facts.height < 1:
        raise BadScene(
            f"the picture would have {facts.width} x {facts.height} pixels: set a larger resolution or region"
        )
    if not facts.has_camera:
        raise BadScene(
            f"scene {facts.name!r} has no active camera, and without one Blender renders nothing: choose one, save"
        )
    if facts.views is Views.STEREO_FILES and facts.format == "CINEON":
        raise BadScene("Blender cannot put two views into one Cineon picture: set Output > File Format to DPX")
    if facts.views is Views.VIEW_FILES and facts.format not in _EXR:
        raise BadScene(
            "every view would go into a file of its own, and a frame comes back as one picture: set Output > File "
            "Format to OpenEXR, or leave two views and set Stereoscopy to Stereo 3D"
        )


def picture_size(facts: SceneFacts) -> tuple[int, int]:
    """Pixels of every picture that comes back."""
    across, down = (2, 1) if _becomes_side_by_side(facts) else facts.stereo_scale
    return facts.width * across, facts.height * down


def notes_on(facts: SceneFacts, frames: Sequence[int]) -> tuple[str, ...]:
    """Everything that comes out otherwise than the scene says, one plain line each."""
    return (*_on_pictures(facts), *_on_engine(facts), *_on_simulations(facts, frames), *_on_code(facts))


def _on_pictures(facts: SceneFacts) -> Iterator[str]:
    if facts.format in MOVIES:
        yield "the scene writes a movie: its frames come back as PNG pictures, without sound; join them afterwards"
    elif facts.format not in KEPT_FORMATS:
        yield f"pictures come back as PNG: the farm cannot bring back {facts.format or 'the format of the scene'}"
    if _becomes_side_by_side(facts):
        yield (
            "stereo views cannot come back in two files: left and right come back side by side in one picture; "
            "for another way set Output > Views > Views Format to Stereo 3D"
        )
    elif facts.views in (Views.STEREO_FILES, Views.VIEW_FILES):
        yield "stereo views cannot come back in files of their own: all views come back in one OpenEXR (multi-view)"
    if facts.file_outputs:
        yield (
            f"what the File Output nodes write does not come back ({_some(facts.file_outputs)}): only the frame's own "
            "picture does; for passes and masks set Output > File Format to OpenEXR MultiLayer"
        )
    if facts.burns_in_text:
        yield "text burned into the picture (Output > Metadata) tells the time and the PC of each frame's render"


def _on_engine(facts: SceneFacts) -> Iterator[str]:
    if facts.engine in OLD_ENGINES:
        yield (
            f"the scene is made for {OLD_ENGINES[facts.engine]} ({facts.engine}), which Blender 2.80 and later do not "
            "have: there it is rendered with Eevee and looks different"
        )
    elif facts.engine not in STOCK_ENGINES:
        yield (
            f"the render engine {facts.engine} is not Blender's own: on PCs without its add-on every frame fails; "
            "install it on all of them, or set the scene to Cycles"
        )


def _on_simulations(facts: SceneFacts, frames: Sequence[int]) -> Iterator[str]:
    last = max(frames, default=0)
    by_kind: dict[str, list[str]] = {}
    for simulation in facts.unbaked:
        if last > simulation.start:
            by_kind.setdefault(simulation.kind, []).append(simulation.owner)
    for kind, owners in by_kind.items():
        yield (
            f"simulation not baked: {kind} on {_some(owners)}; its frames will not fit together, as each is rendered "
            "by a Blender that has not seen the frames before: bake it, save and submit again"
        )


def _on_code(facts: SceneFacts) -> Iterator[str]:
    if facts.python_drivers:
        yield (
            f"Python drivers do not run on a farm ({_some(facts.python_drivers)}): what they drive stands still; "
            "use Blender's simple expressions, or bake them to keyframes"
        )
    if facts.registered_texts:
        names = _some(facts.registered_texts)
        yield f"registered scripts do not run on a farm ({names}): save what they make in the scene"
    if facts.foreign_nodes:
        yield (
            f"the scene has nodes of an add-on ({_some(facts.foreign_nodes)}): where the add-on is not installed they "
            "do nothing; bake or apply what they make"
        )


def _becomes_side_by_side(facts: SceneFacts) -> bool:
    return facts.views is Views.STEREO_FILES and facts.format not in _EXR


def note_on_version(facts: SceneFacts, blender: tuple[int, int]) -> str:
    """What to say where the Blender found here is older than the one that wrote the file; empty where it is not."""
    if blender >= facts.version:
        return ""
    wrote, have = (".".join(map(str, version)) for version in (facts.version, blender))
    return f"the scene was saved by Blender {wrote}, and the Blender here is {have}: it may lose things or not open it"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:_NAMED_AT_ONCE])
    return shown + (f" and {len(names) - _NAMED_AT_ONCE} more" if len(names) > _NAMED_AT_ONCE else "")
