"""What a person is told of a scene, what is refused, and what size is promised to the server."""

import re
from dataclasses import replace

import pytest

from lab.errors import BadFrameRange, BadInput, BadScene
from lab.project_rules import KEPT_FORMATS
from lab.server.protocol.render_script import script_for
from lab.submit.prepared_scene import own_frames, prepare_scene
from lab.submit.scene.facts import FORMATS, SceneFacts, Views, cropped
from lab.submit.scene.notes import note_on_version, notes_on, picture_size, refuse_hopeless
from lab.submit.scene.simulations import Simulation

PLAIN = SceneFacts(
    version=(3, 4),
    name="Scene",
    engine="CYCLES",
    format="PNG",
    width=200,
    height=100,
    border=None,
    views=Views.ONE,
    stereo_scale=(1, 1),
    first_frame=1,
    last_frame=250,
    frame_step=1,
    has_camera=True,
    uses_sequencer=False,
    file_outputs=(),
    unbaked=(),
    python_drivers=(),
    registered_texts=(),
    foreign_nodes=(),
    burns_in_text=False,
)
CLOTH = Simulation(kind="cloth", owner="Flag", start=1)


def test_of_a_plain_scene_nothing_is_told():
    refuse_hopeless(PLAIN)
    assert notes_on(PLAIN, range(1, 251)) == ()
    assert picture_size(PLAIN) == (200, 100)


@pytest.mark.parametrize("engine", ["CYCLES", "BLENDER_EEVEE", "BLENDER_EEVEE_NEXT", "BLENDER_WORKBENCH"])
def test_blenders_own_engines_are_no_news(engine):
    assert notes_on(replace(PLAIN, engine=engine), (1,)) == ()


@pytest.mark.parametrize(
    ("changed", "pattern"),
    [
        ({"engine": "LUXCORE"}, "LUXCORE is not Blender's own"),
        ({"engine": "BLENDER_RENDER"}, "Blender Internal"),
        ({"format": "FFMPEG"}, "single PNG|PNG pictures, without sound"),
        ({"format": "AVIF"}, "cannot bring back AVIF"),
        ({"format": ""}, "come back as PNG"),
        ({"views": Views.STEREO_FILES}, "side by side"),
        ({"views": Views.STEREO_FILES, "format": "OPEN_EXR"}, "one OpenEXR"),
        ({"views": Views.VIEW_FILES, "format": "OPEN_EXR_MULTILAYER"}, "one OpenEXR"),
        ({"file_outputs": ("Depth",)}, "File Output nodes write does not come back \\('Depth'\\)"),
        ({"unbaked": (CLOTH,)}, "cloth on 'Flag'"),
        ({"python_drivers": ("rig(self)",)}, "'rig\\(self\\)'"),
        ({"registered_texts": ("rig.py",)}, "'rig.py'"),
        ({"foreign_nodes": ("AnimationNodeTree",)}, "'AnimationNodeTree'"),
        ({"burns_in_text": True}, "burned into"),
    ],
)
def test_each_thing_that_comes_out_otherwise_is_one_plain_line(changed, pattern):
    [note] = notes_on(replace(PLAIN, **changed), range(1, 251))
    assert re.search(pattern, note), note
    assert note.isprintable()


def test_many_of_a_kind_are_one_line_and_counted():
    flags = tuple(Simulation(kind="cloth", owner=f"Flag {number}", start=1) for number in range(9))
    [note] = notes_on(replace(PLAIN, unbaked=flags), (2,))
    assert "'Flag 4' and 4 more" in note


def test_a_simulation_is_no_matter_up_to_its_first_frame():
    scene = replace(PLAIN, unbaked=(replace(CLOTH, start=10),))
    assert notes_on(scene, range(1, 11)) == ()
    assert len(notes_on(scene, (11,))) == 1


@pytest.mark.parametrize(
    ("changed", "cure"),
    [
        ({"has_camera": False}, "choose one"),
        ({"width": 0}, "larger resolution"),
        ({"border": (0.5, 0.5, 0.0, 1.0)}, "draw one"),
        ({"border": (0.0, 1.0, 0.0, 1.0), "uses_sequencer": True}, "switch Render Region or Sequencer off"),
        ({"views": Views.VIEW_FILES}, "File Format to OpenEXR"),
        ({"views": Views.STEREO_FILES, "format": "CINEON"}, "DPX"),
    ],
)
def test_what_cannot_work_is_refused_with_the_cure(changed, cure):
    with pytest.raises(BadScene, match=cure):
        refuse_hopeless(replace(PLAIN, **changed))


@pytest.mark.parametrize(
    ("changed", "size"),
    [
        ({"views": Views.STEREO_FILES}, (400, 100)),
        ({"views": Views.STEREO_FILES, "format": "OPEN_EXR"}, (200, 100)),
        ({"views": Views.STEREO, "stereo_scale": (1, 2)}, (200, 200)),
    ],
)
def test_the_promised_size_is_that_of_the_picture_that_comes_back(changed, size):
    assert picture_size(replace(PLAIN, **changed)) == size


def test_a_region_is_cut_in_single_precision_as_blender_does():
    below = 0.699999988079071  # what a file holds for 0.7
    assert int(below * 100) == 69
    assert cropped(100, 0.0, below) == 70


@pytest.mark.parametrize(
    ("first", "last", "step", "frames"),
    [(1, 250, 1, "1-250"), (3, 17, 5, "3-17x5"), (7, 7, 2, "7"), (9, 3, 1, "9"), (0, 2, 1, "0-2")],
)
def test_the_scenes_own_frames_are_its_start_end_and_step(first, last, step, frames):
    assert own_frames(replace(PLAIN, first_frame=first, last_frame=last, frame_step=step)) == frames


def test_an_older_blender_than_the_files_is_told():
    assert note_on_version(PLAIN, (3, 4)) == note_on_version(PLAIN, (4, 0)) == ""
    assert "saved by Blender 3.4, and the Blender here is 3.3" in note_on_version(PLAIN, (3, 3))


def test_a_wrong_wish_is_refused_before_the_scene_is_opened(tmp_path):
    with pytest.raises(BadInput, match="cpu, gpu or either"):
        prepare_scene(tmp_path / "not there.blend", "1", "tpu")
    with pytest.raises(BadFrameRange):
        prepare_scene(tmp_path / "not there.blend", "10-1")
    with pytest.raises(BadScene, match=r"has to be a \.blend file"):
        prepare_scene(tmp_path / "not there.blend")


def test_every_picture_format_of_blender_stays_what_it_is():
    movies = {"AVI_RAW", "AVI_JPEG", "FFMPEG"}
    assert set(FORMATS.values()) - set(KEPT_FORMATS) == movies | {"AVIF"}
    for gpu in (True, False):
        compile(script_for(use_gpu=gpu), "script", "exec")
