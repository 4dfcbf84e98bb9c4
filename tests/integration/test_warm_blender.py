"""A real Blender that stays open: the same pixels as the server's command line, and a way back from everything."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import psutil
import pytest

from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.output.progress import Progress
from render_tasks.blender.render_job import RenderedFrame, RenderJob
from render_tasks.blender.warm import process as warm_process
from render_tasks.blender.warm.pool import WarmBlenders
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from sheepfold.contract.api_messages import FailureKind
from tests.support.nodes.null_renderer import packed
from tests.support.nodes.worker_harness import OneNode, wait_for

pytestmark = pytest.mark.blender

COMMAND_LINE = ".e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1"
OTHER_LINE = ".e -t 1 --factory-startup -y -b .c -x 1 -F JPEG -E CYCLES -o .o -f .f"
PLAIN = "import bpy\n"
#: As servers send it, in the API of Blenders from 2.80 on.
PNG_FOR_MOVIES = """import bpy
render = bpy.context.scene.render
if render.image_settings.file_format not in {"BMP", "PNG", "JPEG", "TARGA", "TARGA_RAW"}:
    render.image_settings.file_format = "PNG"
    render.filepath = ""
"""
HANDLERS = """import bpy
def lift(scene, *_):
    bpy.data.objects["Cube"].scale.z = 1 + scene.frame_current / 10
def widen(scene, *_):
    scene.camera.data.lens = 35 + scene.frame_current + scene.frame_end / 50
bpy.app.handlers.frame_change_pre.append(lift)
bpy.app.handlers.render_init.append(widen)
"""
DIES_AT_5 = """import bpy, os, signal
def die(scene, *_):
    print("about to die at", scene.frame_current, flush=True)
    if scene.frame_current == 5 and not os.path.exists({flag!r}):
        open({flag!r}, "w").close()
        os.kill(os.getpid(), signal.SIGSEGV)
bpy.app.handlers.render_pre.append(die)
"""


@pytest.fixture(scope="module")
def renderer(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A renderer archive that launches the Blender of this PC, unpacked; it notes each start."""
    folder = tmp_path_factory.mktemp("renderer")
    launcher = folder / "rend.exe"
    launcher.write_text(f'#!/bin/sh\necho $$ >> "{folder}/starts"\nexec "{blender}" "$@"\n')
    launcher.chmod(0o755)
    (folder / "starts").touch()
    return folder


@pytest.fixture(scope="module")
def scenes(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    script = Path(__file__).parents[1] / "support" / "scenes" / "warm_scenes.py"
    argv = [blender, "-b", "--factory-startup", "-P", str(script), "--", str(folder)]
    done = subprocess.run(argv, check=True, capture_output=True, timeout=60)
    assert (folder / "heavy.blend").exists(), done.stdout.decode() + done.stderr.decode()
    return folder


@pytest.fixture
def guard() -> Iterator[OrphanGuard]:
    guard = OrphanGuard()
    guard.start()
    yield guard
    guard.stop()


class Bench:
    """A pool and what its frames need."""

    def __init__(self, renderer: Path, scenes: Path, folder: Path, guard: OrphanGuard) -> None:
        self.renderer, self.scenes, self.folder, self.guard = renderer, scenes, folder, guard
        self.pool = WarmBlenders(folder / "warm", slots=1)
        self._starts_before = len(self.pids())

    def pids(self) -> list[int]:
        """Of every renderer that was started, oldest first."""
        return [int(line) for line in (self.renderer / "starts").read_text().split()]

    @property
    def starts(self) -> int:
        """Renderers started by this test."""
        return len(self.pids()) - self._starts_before

    def job(self, scene: str, frame: str, **changes: object) -> RenderJob:
        settings: dict[str, object] = {
            "renderer": self.renderer,
            "renderer_md5": "1" * 32,
            "scene_key": hashlib.md5(scene.encode()).hexdigest(),
            "revision": "1",
            "scene": self.scenes / f"{scene}.blend",
            "command_line": COMMAND_LINE,
            "script": PLAIN,
            "frame": frame,
            "update_method": "remainingtime",
            "gpu": False,
            "cores": None,
            "time_limit_s": None,
            "memory_limit_kb": None,
            "scratch": self.folder / f"attempt {frame}",
        }
        return RenderJob(**(settings | changes))  # type: ignore[arg-type]

    def render(
        self,
        job: RenderJob,
        switch: CancelToken | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> RenderedFrame:
        return self.pool.render(job, switch or CancelToken(), self.guard, on_progress)

    def by_hand(self, blender: str, scene: str, frame: str, script: str, line: str = COMMAND_LINE) -> Path:
        """What the server's own command line gives."""
        path = self.folder / "by hand.py"
        path.write_text(script)
        prefix = self.folder / "by hand" / "frame_"
        shutil.rmtree(prefix.parent, ignore_errors=True)
        parts = {
            ".e": [blender],
            ".c": [str(self.scenes / f"{scene}.blend"), "-P", str(path)],
            ".o": [str(prefix)],
            ".f": [str(int(frame))],
        }
        argv = [part for word in line.split() for part in parts.get(word, [word])]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
        return next(prefix.parent.iterdir())


@pytest.fixture
def bench(renderer: Path, scenes: Path, tmp_path: Path, guard: OrphanGuard) -> Iterator[Bench]:
    bench = Bench(renderer, scenes, tmp_path, guard)
    with contextlib.closing(bench.pool):
        yield bench
    assert not list((tmp_path / "warm").glob("*"))
    assert all(map(gone, bench.pids()))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(oiio.ImageBuf(str(path)).get_pixels(oiio.FLOAT))


def open_scenes(bench: Bench) -> set[Path]:
    return {key.scene for key in bench.pool.open_keys()}


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("scene", "script", "line"),
    [
        pytest.param("moving", PLAIN, COMMAND_LINE, id="motion blur and drivers"),
        pytest.param("movie", PNG_FOR_MOVIES, COMMAND_LINE, id="a script that changes the format"),
        pytest.param("composed", PLAIN, COMMAND_LINE, id="compositor nodes and two cameras"),
        pytest.param("ranged", PLAIN, COMMAND_LINE, id="a driver that reads the frame range"),
        pytest.param("hairy", HANDLERS, COMMAND_LINE, id="hair, and a script with handlers"),
        pytest.param("moving", PLAIN, ".e --factory-startup -b .c -x 0 -o .o -f .f", id="names without an extension"),
        pytest.param("moving", "this is (no Python", OTHER_LINE, id="other options and a broken script"),
    ],
)
def test_every_frame_has_the_name_and_the_pixels_of_the_servers_own_command_line(
    bench: Bench, blender: str, scene: str, script: str, line: str
) -> None:
    for frame in ("0007", "3", "12"):
        warm = bench.render(bench.job(scene, frame, script=script, command_line=line))
        direct = bench.by_hand(blender, scene, frame, script, line)
        assert warm.picture.name == direct.name
        assert np.array_equal(pixels(warm.picture), pixels(direct)), f"frame {frame} differs"
    assert bench.starts == 1


def test_frames_differ_from_each_other(bench: Bench) -> None:
    pictures = [pixels(bench.render(bench.job("moving", frame)).picture) for frame in ("1", "5", "9")]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


def test_a_simulation_has_one_blender_per_frame_from_its_second_start_on(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for frame in ("4", "5"):
            assert bench.render(bench.job("falling", frame)).picture.name == f"frame_000{frame}.png"
    assert "it has a simulation (Cube)" in caplog.text
    assert bench.starts == 3


def test_test_frames_and_lines_with_unknown_options_leave_nothing_open(bench: Bench) -> None:
    bench.render(bench.job("moving", "1", is_test=True))
    bench.render(bench.job("moving", "1", command_line=".e -b --verbose 1 .c -o .o -f .f"))
    assert not open_scenes(bench)
    assert bench.starts == 2


def test_time_and_memory_are_those_of_each_frame(bench: Bench) -> None:
    told: list[Progress] = []
    began = time.monotonic()
    first, second = (bench.render(bench.job("moving", frame), on_progress=told.append) for frame in ("1", "2"))
    assert second.render_s < first.render_s
    assert first.render_s + second.render_s < time.monotonic() - began
    assert 50_000 < second.memory_kb < 1_000_000
    assert told[-1].fraction == pytest.approx(1.0, abs=0.5)
    # A peak that an earlier frame left behind is forgotten.
    greedy = "import bpy\n"
    greedy += "bpy.app.handlers.render_pre.append(lambda s, *_: b'x' * (300_000_000 if s.frame_current == 1 else 1))\n"
    high, low = (bench.render(bench.job("moving", frame, script=greedy)) for frame in ("1", "2"))
    assert high.memory_kb - low.memory_kb > 200_000


def test_a_cancel_ends_the_whole_tree_within_two_seconds_and_the_next_frame_renders(bench: Bench) -> None:
    switch, told, ended_at = CancelToken(), threading.Event(), []

    def attempt() -> None:
        with contextlib.suppress(AttemptDropped):
            bench.render(bench.job("heavy", "3"), switch, lambda progress: progress.memory_kb and told.set())
        ended_at.append(time.monotonic())

    thread = threading.Thread(target=attempt)
    thread.start()
    assert told.wait(30)
    began = time.monotonic()
    switch.cancel("cancelled")
    thread.join(10)
    assert ended_at[0] - began < 2
    assert all(map(gone, bench.pids()))
    assert bench.render(bench.job("moving", "1")).picture.is_file()


def test_the_memory_told_under_way_is_what_the_tree_holds_and_not_what_blender_counts(bench: Bench) -> None:
    told: list[Progress] = []
    hoard = "import bpy\nhoard = []\nbpy.app.handlers.render_pre.append(lambda *_: hoard.append(b'x' * 300_000_000))\n"
    with pytest.raises(AttemptFailed):
        bench.render(bench.job("heavy", "3", script=hoard, time_limit_s=4), on_progress=told.append)
    assert told[-1].memory_kb > 300_000


def test_a_time_limit_ends_a_frame_and_keeps_the_scene_cold(bench: Bench) -> None:
    with pytest.raises(AttemptFailed) as failed:
        bench.render(bench.job("heavy", "3", time_limit_s=3))
    assert failed.value.report.kind is FailureKind.TIME_LIMIT
    assert "Fra:3" in failed.value.report.log
    assert all(map(gone, bench.pids()))


def test_a_memory_limit_ends_a_frame_and_the_whole_tree(bench: Bench) -> None:
    greedy = "import bpy, time\nkept = []\n"
    greedy += "bpy.app.handlers.render_pre.append(lambda *_: (kept.append(b'x' * 1_000_000_000), time.sleep(30)))\n"
    with pytest.raises(AttemptFailed) as failed:
        bench.render(bench.job("moving", "3", script=greedy, memory_limit_kb=800 * 1024))
    assert failed.value.report.kind is FailureKind.OUT_OF_MEMORY
    assert "a render on this PC may hold 0.781 GB" in failed.value.report.reason
    assert failed.value.report.render_s < 20
    assert all(map(gone, bench.pids()))
    assert bench.starts == 1
    assert bench.render(bench.job("moving", "3", memory_limit_kb=800 * 1024)).picture.is_file()


def test_a_blender_that_dies_is_followed_by_a_cold_one_in_the_same_attempt(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    script = DIES_AT_5.format(flag=str(bench.folder / "died"))
    for frame in ("4", "5", "6"):
        assert bench.render(bench.job("moving", frame, script=script)).picture.name == f"frame_000{frame}.png"
    assert "frame 5 of moving.blend failed in a warm Blender (the renderer " in caplog.text
    assert bench.starts == 3  # warm for 4, cold for 5 and 6


def test_a_frame_that_fails_warm_and_cold_is_reported_with_both_logs(bench: Bench) -> None:
    script = "import bpy, os, sys\nprint('unlucky scene', file=sys.stderr)\n"
    script += "bpy.app.handlers.render_pre.append(lambda *_: os.kill(os.getpid(), 11))\n"
    with pytest.raises(AttemptFailed) as failed:
        bench.render(bench.job("moving", "1", script=script))
    log = failed.value.report.log
    assert failed.value.report.kind is FailureKind.RENDERER_CRASHED
    cold, warm = log.split("# before, in a warm Blender: ")
    assert "SIGSEGV" in warm.splitlines()[0]
    assert "unlucky scene" in cold
    assert "unlucky scene" in warm


def test_what_blender_says_of_the_scene_itself_costs_one_start(bench: Bench) -> None:
    """Given a scene without a camera: a Blender of the frame's own would say the same."""
    script = (
        "import bpy\nfor one in [o for o in bpy.data.objects if o.type == 'CAMERA']: bpy.data.objects.remove(one)\n"
    )
    with pytest.raises(AttemptFailed) as failed:
        bench.render(bench.job("moving", "1", script=script))
    report = failed.value.report
    assert (report.kind, report.reason) == (FailureKind.NO_CAMERA, "Cannot render, no camera")
    assert "in a warm Blender" not in report.log
    assert bench.starts == 1


def test_a_worn_out_blender_makes_way_for_a_new_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_process, "FRAMES_AT_MOST", 2)
    for frame in ("1", "2", "3"):
        bench.render(bench.job("moving", frame))
    assert bench.starts == 2
    monkeypatch.setattr(warm_process, "FRAMES_AT_MOST", 250)
    monkeypatch.setattr(warm_process, "SMALL_KB", 0)
    greedy = "import bpy\nkept = []\n"
    greedy += "bpy.app.handlers.render_post.append(lambda s, *_: kept.append(b'x' * 100_000_000 * s.frame_current))\n"
    for frame in ("1", "4", "2"):
        bench.render(bench.job("moving", frame, script=greedy))
    assert bench.starts == 4


def test_an_unused_blender_is_closed_and_so_is_one_whose_archive_goes(bench: Bench) -> None:
    bench.render(bench.job("moving", "1"))
    assert open_scenes(bench) == {bench.scenes / "moving.blend"}
    assert bench.pool.close_idle_once(time.monotonic()) is not None
    assert bench.pool.close_idle_once(time.monotonic() + 1000) is None
    assert all(map(gone, bench.pids()))
    bench.render(bench.job("moving", "1"))
    bench.pool.release(bench.folder)  # somebody else's archive
    assert open_scenes(bench)
    bench.pool.release(bench.scenes)
    assert not open_scenes(bench)
    assert all(map(gone, bench.pids()))


def test_another_scene_takes_the_place(bench: Bench) -> None:
    for scene in ("moving", "composed", "moving"):
        bench.render(bench.job(scene, "1"))
        assert open_scenes(bench) == {bench.scenes / f"{scene}.blend"}
    assert bench.starts == 3


def test_blender_finds_no_orders_on_its_standard_input(bench: Bench) -> None:
    script = """import bpy, os
def look(*_):
    print("found", os.read(0, 100), flush=True)
    os.kill(os.getpid(), 9)
bpy.app.handlers.render_pre.append(look)
"""
    with pytest.raises(AttemptFailed) as failed:
        bench.render(bench.job("moving", "1", script=script))
    assert failed.value.report.log.count("found b''") == 2


_LONELY_WORKER = """
import sys, time
from pathlib import Path
from render_tasks.blender.render_job import RenderJob
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.cancellation import CancelToken
from render_tasks.blender.warm.pool import WarmBlenders
renderer, scenes, folder, line = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
guard = OrphanGuard()
guard.start()
pool = WarmBlenders(folder / "warm", slots=2)
def job(scene):
    return RenderJob(renderer=renderer, renderer_md5="1", scene_key=scene, revision="1", memory_limit_kb=None,
               scene=scenes / scene, command_line=line, script="", frame="1", update_method="",
               gpu=False, cores=None, time_limit_s=None, scratch=folder / scene)
pool.render(job("moving.blend"), CancelToken(), guard, lambda _: None)
pool.render(job("heavy.blend"), CancelToken(), guard,
            lambda progress: progress.memory_kb and print("rendering", flush=True))
"""


def test_no_blender_outlives_a_worker_that_is_killed_with_minus_9(renderer: Path, scenes: Path, tmp_path: Path) -> None:
    before = len((renderer / "starts").read_text().split())
    argv = [sys.executable, "-c", _LONELY_WORKER, str(renderer), str(scenes), str(tmp_path), COMMAND_LINE]
    worker = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert worker.stdout
    assert worker.stdout.readline() == b"rendering\n"
    pids = [int(line) for line in (renderer / "starts").read_text().split()[before:]]
    assert len(pids) == 2  # one waits, one renders
    assert not any(map(gone, pids))
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    wait_for(lambda: all(map(gone, pids)), 2)


@pytest.mark.redis
@pytest.mark.parametrize("warm", ["true", "false"])
def test_a_node_keeps_a_blender_open_between_orders_unless_it_is_told_not_to(
    blender: str, scenes: Path, tmp_path: Path, warm: str
) -> None:
    starts = tmp_path / "starts"
    launcher = f'#!/bin/sh\necho $$ >> "{starts}"\nexec "{blender}" "$@"\n'
    renderer = packed({"rend.exe": launcher.encode()})
    scene = packed({"moving.blend": (scenes / "moving.blend").read_bytes()})
    with contextlib.closing(OneNode(tmp_path, SHEEPFOLD_WARM=warm)) as node:
        node.depot.archives |= {ref.md5: content for ref, content in (renderer, scene)}
        node.start().until_ready()
        places = {"renderer_archive": renderer[0], "scene_archives": (scene[0],), "scene_path": "moving.blend"}
        orders = [node.order(frame, **places) for frame in ("0003", "0001", "0002")]
        wait_for(lambda: all(order.lease_id in node.depot.frames for order in orders), 30)
        open_scenes = (scene[0].md5,) if warm == "true" else ()
        wait_for(lambda: (record := node.presence()) and not record.busy and record.warm == open_scenes)
        assert len(set(node.depot.frames.values())) == 3
        gaps = re.findall(r"slot 1, (\d+) ms after the frame before", node.log.read_text())
        assert len(gaps) == 2
        pids = [int(line) for line in starts.read_text().split()]
        assert len(pids) == (1 if warm == "true" else 3)
        assert gone(pids[-1]) is (warm == "false")
        node.order("4", job_id="7", **places)
        wait_for(lambda: len(starts.read_text().split()) == len(pids) + 1, 20)  # a test frame has its own
        assert node.stop() < 10
        assert all(gone(int(line)) for line in starts.read_text().split())


@pytest.mark.redis
def test_two_jobs_that_take_turns_on_one_slot_start_two_blenders(blender: str, scenes: Path, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    renderer = packed({"rend.exe": f'#!/bin/sh\necho $$ >> "{starts}"\nexec "{blender}" "$@"\n'.encode()})
    jobs = [packed({"scene.blend": (scenes / f"{name}.blend").read_bytes()}) for name in ("moving", "ranged")]
    with contextlib.closing(OneNode(tmp_path)) as node:
        node.depot.archives |= {ref.md5: content for ref, content in (renderer, *jobs)}
        node.start().until_ready()
        places = {"renderer_archive": renderer[0], "scene_path": "scene.blend"}
        orders = [
            node.order(str(number), scene_archives=(jobs[number % 2][0],), job_id=str(70 + number % 2), **places)
            for number in range(6)
        ]
        wait_for(lambda: all(order.lease_id in node.depot.frames for order in orders), 60)
        assert len(starts.read_text().split()) == 2
        assert node.stop() < 10
