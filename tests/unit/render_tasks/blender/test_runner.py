"""What surrounds a renderer: its log, why it failed, its environment, the script for every generation of Blender."""

from __future__ import annotations

import io
import sys
import types
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render_tasks.blender.output.diagnosis import ExitEvidence, diagnose, missing_engine
from render_tasks.blender.output.log_buffer import MAX_LINE_BYTES, LogBuffer
from render_tasks.blender.startup_script import SCENE_MARK, our_script
from render_tasks.settings import cores_of_a_slot
from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.failure_causes import CAUSES, REMEDIES, Cause


@given(st.lists(st.binary(max_size=300)), st.integers(0, 100), st.integers(1, 100))
def test_lines_come_once_and_the_log_stays_small_however_it_is_cut(chunks: list[bytes], head: int, tail: int) -> None:
    lines: list[str] = []
    output = LogBuffer(lines.append, head_bytes=head, tail_bytes=tail)
    for chunk in chunks:
        output.feed(chunk)
    output.close()
    whole = b"".join(chunks)
    expected = [part.decode("utf-8", "replace") for part in whole.replace(b"\r", b"\n").split(b"\n") if part]
    assert lines == list(expected)
    assert len(output.text()) <= head + tail + 60
    if len(whole) <= head + tail:
        assert output.text() == whole.decode("utf-8", "replace")


def test_a_line_without_end_is_cut() -> None:
    lines: list[str] = []
    output = LogBuffer(lines.append)
    for _ in range(100):
        output.feed(b"x" * 1000)
    output.feed(b"\nnext\n")
    assert [len(line) for line in lines] == [MAX_LINE_BYTES, 4]


def exit_evidence(**changes: Any) -> ExitEvidence:
    usual = {"exit_code": 1, "ran_s": 60, "log": "", "crash_file": False, "memory_kb": 1000, "ram_kb": 16_000}
    return ExitEvidence(**(usual | changes))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"exit_code": -11}, FailureKind.RENDERER_CRASHED),
        ({"exit_code": 139}, FailureKind.RENDERER_CRASHED),
        ({"exit_code": 0xC0000005}, FailureKind.RENDERER_CRASHED),
        ({"exit_code": -1073741819}, FailureKind.RENDERER_CRASHED),
        ({"exit_code": 1, "crash_file": True}, FailureKind.RENDERER_CRASHED),
        ({"exit_code": -9}, FailureKind.RENDERER_CRASHED),
        ({"exit_code": -9, "memory_kb": 12_000}, FailureKind.OUT_OF_MEMORY),
        ({"exit_code": 137, "memory_kb": 12_000}, FailureKind.OUT_OF_MEMORY),
        ({"exit_code": 0, "log": "System is out of GPU memory"}, FailureKind.OUT_OF_MEMORY),
        ({"exit_code": 127, "ran_s": 0.1}, FailureKind.MISSING_LIBRARIES),
        ({"exit_code": 127, "ran_s": 11}, FailureKind.NO_OUTPUT),
        ({"exit_code": 0}, FailureKind.NO_OUTPUT),
        ({"exit_code": 255}, FailureKind.NO_OUTPUT),
        ({"exit_code": -6, "log": "No space left on device"}, FailureKind.DISK_FULL),
    ],
)
def test_a_failure_is_named_after_what_is_left_of_it(changes: dict[str, Any], kind: FailureKind) -> None:
    assert diagnose(exit_evidence(**changes))[0] is kind


def test_the_line_for_a_person_names_the_library() -> None:
    log = "hello\nrend.exe: error while loading shared libraries: libX11.so.6: cannot open shared object file\n"
    assert "libX11.so.6" in diagnose(exit_evidence(exit_code=127, ran_s=0.1, log=log))[1]


#: What Blender 3.4.1 prints, and what must be made of it.
SAID = {
    "no camera": (
        "Blender 3.4.1\nRead blend: /a/b/nocam.blend\nError: Cannot render, no camera\n\nBlender quit\n",
        FailureKind.NO_CAMERA,
        "Cannot render, no camera",
    ),
    "newer": (
        "Blender 3.4.1\nRead blend: /a/b/v5.blend\n"
        "Error: Failed to read blend file '/a/b/v5.blend', not a blend file\n\nBlender quit\n",
        FailureKind.SCENE_UNREADABLE,
        "Failed to read blend file 'v5.blend', not a blend file (this is Blender 3.4.1: a newer one may read it)",
    ),
    "broken": (
        "Blender 3.4.1\nError: Failed to read blend file '/a/b/x.blend': Missing DNA block\n",
        FailureKind.SCENE_UNREADABLE,
        "Failed to read blend file 'x.blend': Missing DNA block (this is Blender 3.4.1: a newer one may read it)",
    ),
    "engine": ("Blender 3.4.1\nError: engine not found 'MALT'\n", FailureKind.NO_ENGINE, "engine not found 'MALT'"),
    "layers": (
        "Blender 3.4.1\nError: All render layers are disabled\n",
        FailureKind.NOTHING_TO_RENDER,
        "All render layers are disabled",
    ),
    "denoiser": (
        "Blender 3.4.1\nError: Build without OpenImageDenoiser\n\nBlender quit\n",
        FailureKind.NO_ENGINE,
        "Build without OpenImageDenoiser",
    ),
    "script": (
        "Blender 3.4.1\nError: Python: Traceback (most recent call last):\n"
        '  File "/tmp/e.py", line 1, in <module>\n    raise RuntimeError(1)\nRuntimeError: 1\n',
        FailureKind.NO_OUTPUT,
        "RuntimeError: 1 (the renderer ended with exit code 1 and left no picture)",
    ),
    "the last error counts": (
        "Error: one\nRuntimeError: Error: Cannot render, no camera\n",
        FailureKind.NO_CAMERA,
        "Cannot render, no camera",
    ),
    "nothing": ("Blender 3.4.1\n", FailureKind.NO_OUTPUT, "the renderer ended with exit code 1 and left no picture"),
}


@pytest.mark.parametrize("name", SAID)
def test_the_reason_is_blenders_own_last_error(name: str) -> None:
    log, kind, reason = SAID[name]
    assert diagnose(exit_evidence(log=log)) == (kind, reason)


def test_a_crash_is_told_with_blenders_last_error() -> None:
    reason = diagnose(exit_evidence(exit_code=-11, log="Error: Texture 'x' is too large\n"))[1]
    assert reason == "the renderer died of SIGSEGV; Blender's last error: Texture 'x' is too large"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"exit_code": 127, "ran_s": 0.1, "log": "exec: blender: not found"}, FailureKind.NO_BLENDER),
        ({"exit_code": 126, "ran_s": 0.1, "log": "Permission denied"}, FailureKind.NO_BLENDER),
        ({"exit_code": 0, "ran_s": 0.1, "is_whole_log": True}, FailureKind.NO_BLENDER),
        ({"exit_code": 1, "log": "Blender 3.4.1\n", "is_whole_log": True}, FailureKind.NO_OUTPUT),
        ({"exit_code": 1, "log": "no beginning", "is_whole_log": False}, FailureKind.NO_OUTPUT),
        (
            {"exit_code": 127, "log": "blender: error while loading shared libraries: libX.so"},
            FailureKind.MISSING_LIBRARIES,
        ),
        ({"exit_code": -11, "is_whole_log": True, "log": "Blender 3.4.1\n"}, FailureKind.RENDERER_CRASHED),
    ],
)
def test_a_blender_of_the_pc_that_does_not_start_is_the_pcs_trouble(changes: dict[str, Any], kind: FailureKind) -> None:
    assert diagnose(exit_evidence(**changes, is_launcher=True))[0] is kind


def test_a_picture_in_another_engine_than_the_scenes_is_noticed() -> None:
    log = (
        "Blender 3.4.1\nError: Engine 'LUX' not available for scene 'Shot' (an add-on may need to be installed)\n"
        f"{SCENE_MARK}Shot\nSaved: 'x'\n"
    )
    assert missing_engine(log, "import bpy") == "Engine 'LUX' not available for scene 'Shot'"
    assert missing_engine(log, "bpy.context.scene.render.engine = 'CYCLES'") == "", "the server chose one"
    other = log.replace(f"{SCENE_MARK}Shot", f"{SCENE_MARK}Other")
    assert missing_engine(other, "import bpy") == "", "that scene is not rendered"
    assert missing_engine("Blender 3.4.1\n", "") == ""


def test_every_kind_of_failure_has_a_cause_and_a_nodes_own_trouble_a_remedy() -> None:
    assert CAUSES.keys() == set(FailureKind)
    nodes = {kind for kind, cause in CAUSES.items() if cause is Cause.NODE}
    assert REMEDIES.keys() == nodes - {FailureKind.NODE_LEAVING}


@pytest.mark.parametrize(
    ("asked", "slots", "usable", "present", "cores"),
    [(None, 1, 8, 8, None), (None, 1, 4, 8, 4), (None, 2, 8, 8, 4), (None, 16, 8, 8, 1), (3, 2, 8, 8, 3)],
)
def test_slots_share_the_threads(asked: int | None, slots: int, usable: int, present: int, cores: int | None) -> None:
    assert cores_of_a_slot(asked, slots, usable, present) == cores


class Kinds:
    """Cycles' preferences: a kind this build does not have is a TypeError, as in Blender."""

    def __init__(self, kinds: dict[str, list[SimpleNamespace]], *, by_type: bool) -> None:
        self.__dict__.update(_kinds={"NONE": [], **kinds}, compute_device_type="OLD")
        if by_type:
            self.__dict__["get_devices_for_type"] = lambda kind: self._kinds[kind]
        else:
            self.__dict__["get_devices"] = lambda: tuple(self._kinds.values())

    def __setattr__(self, name: str, value: str) -> None:
        if value not in self._kinds:
            raise TypeError(f"enum {value!r} not found")
        self.__dict__[name] = value


def run_in(generation: str, kinds: dict[str, list[SimpleNamespace]], tmp_path: Path, gpu: bool) -> tuple[Any, str]:
    """Our script in a make-believe bpy of one generation."""
    addons = {} if generation == "2.77" else {
        "cycles": SimpleNamespace(preferences=Kinds(kinds, by_type=generation == "4.x"))
    }  # fmt: skip
    preferences = SimpleNamespace(
        addons=addons,
        filepaths=SimpleNamespace(temporary_directory=""),
        system=SimpleNamespace(compute_device_type="CUDA"),
    )
    scene = SimpleNamespace(cycles=SimpleNamespace(device="GPU"))
    name = "preferences" if generation == "4.x" else "user_preferences"
    bpy = types.ModuleType("bpy")
    bpy.context = SimpleNamespace(**{name: preferences})  # type: ignore[attr-defined]
    bpy.data = SimpleNamespace(scenes=[scene, SimpleNamespace()])  # type: ignore[attr-defined]
    (tmp_path / "server.py").write_text("import bpy\nraise RuntimeError('the server script is wrong')\n")
    code = our_script(tmp_path / "server.py", tmp_path / "tmp", gpu=gpu)
    before, sys.modules["bpy"] = sys.modules.get("bpy"), bpy
    try:
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, "script.py", "exec"), {"__name__": "__main__"})
    finally:
        sys.modules.pop("bpy")
        if before:
            sys.modules["bpy"] = before
    assert preferences.filepaths.temporary_directory == str(tmp_path / "tmp")
    return SimpleNamespace(preferences=preferences, scene=scene), printed.getvalue()


@pytest.mark.parametrize("generation", ["2.77", "2.79", "4.x"])
def test_every_generation_of_blender_is_set_to_the_cpu(tmp_path: Path, generation: str) -> None:
    world, printed = run_in(generation, {"CUDA": []}, tmp_path, gpu=False)
    assert "the CPU" in printed
    if generation == "2.77":
        assert world.preferences.system.compute_device_type == "NONE"
    else:
        assert world.preferences.addons["cycles"].preferences.compute_device_type == "NONE"
        assert world.scene.cycles.device == "CPU"


@pytest.mark.parametrize("generation", ["2.79", "4.x"])
def test_a_gpu_is_used_where_there_is_one(tmp_path: Path, generation: str) -> None:
    card, cpu = SimpleNamespace(type="CUDA", use=False), SimpleNamespace(type="CPU", use=True)
    world, printed = run_in(generation, {"CUDA": [card, cpu]}, tmp_path, gpu=True)
    assert "CUDA" in printed
    assert world.scene.cycles.device == "GPU"
    assert (card.use, cpu.use) == (True, False)


def test_a_gpu_job_without_a_gpu_falls_back_to_the_cpu(tmp_path: Path) -> None:
    world, printed = run_in("4.x", {"OPTIX": [], "CUDA": []}, tmp_path, gpu=True)
    assert "the CPU" in printed
    assert world.scene.cycles.device == "CPU"
