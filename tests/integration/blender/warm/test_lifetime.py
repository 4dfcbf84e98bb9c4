"""A real Blender that stays open ends when it should, and a cold one follows."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from render_tasks.blender.warm import process as warm_process
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.orders import RenderOrder
from sheepfold.contract.presence import Stage
from tests.support.blender.render_jobs import gone
from tests.support.blender.warm_pool_harness import WarmPoolHarness, open_scenes
from tests.support.nodes.null_renderer import COMMAND_LINE, packed
from tests.support.nodes.worker_harness import WorkerHarness, wait_for
from tests.support.nodes.worker_probes import stages

DIES_AT_5 = """import bpy, os, signal
def die(scene, *_):
    print("about to die at", scene.frame_current, flush=True)
    if scene.frame_current == 5 and not os.path.exists({flag!r}):
        open({flag!r}, "w").close()
        os.kill(os.getpid(), signal.SIGSEGV)
bpy.app.handlers.render_pre.append(die)
"""


def test_a_cancel_ends_the_whole_tree_within_two_seconds_and_the_next_frame_renders(harness: WarmPoolHarness) -> None:
    token, rendering, ended_at = CancelToken(), threading.Event(), []

    def attempt() -> None:
        with contextlib.suppress(AttemptDropped):
            harness.render(harness.job("heavy", "3"), token, lambda progress: progress.memory_kb and rendering.set())
        ended_at.append(time.monotonic())

    thread = threading.Thread(target=attempt)
    thread.start()
    assert rendering.wait(30)
    began = time.monotonic()
    token.cancel("cancelled")
    thread.join(10)
    assert ended_at[0] - began < 2
    assert all(map(gone, harness.pids()))
    assert harness.render(harness.job("moving", "1")).picture.is_file()


def test_a_time_limit_ends_a_frame_and_keeps_the_scene_cold(harness: WarmPoolHarness) -> None:
    with pytest.raises(AttemptFailed) as failed:
        harness.render(harness.job("heavy", "3", time_limit_s=3))
    assert failed.value.report.kind is FailureKind.TIME_LIMIT
    assert "Fra:3" in failed.value.report.log
    assert all(map(gone, harness.pids()))


def test_a_memory_limit_ends_a_frame_and_the_whole_tree(harness: WarmPoolHarness) -> None:
    greedy = "import bpy, time\nkept = []\n"
    greedy += "bpy.app.handlers.render_pre.append(lambda *_: (kept.append(b'x' * 1_000_000_000), time.sleep(30)))\n"
    with pytest.raises(AttemptFailed) as failed:
        harness.render(harness.job("moving", "3", script=greedy, memory_limit_kb=800 * 1024))
    assert failed.value.report.kind is FailureKind.OUT_OF_MEMORY
    assert "a render on this PC may hold 0.781 GB" in failed.value.report.reason
    assert failed.value.report.render_s < 20
    assert all(map(gone, harness.pids()))
    assert harness.starts == 1
    assert harness.render(harness.job("moving", "3", memory_limit_kb=800 * 1024)).picture.is_file()


def test_a_blender_that_dies_is_followed_by_a_cold_one_in_the_same_attempt(
    harness: WarmPoolHarness, caplog: pytest.LogCaptureFixture
) -> None:
    script = DIES_AT_5.format(flag=str(harness.folder / "died"))
    for frame in ("4", "5", "6"):
        assert harness.render(harness.job("moving", frame, script=script)).picture.name == f"frame_000{frame}.png"
    assert "frame 5 of moving.blend failed in a warm Blender (the renderer " in caplog.text
    assert harness.starts == 3  # warm for 4, cold for 5 and 6


def test_a_frame_that_fails_warm_and_cold_is_reported_with_both_logs(harness: WarmPoolHarness) -> None:
    script = "import bpy, os, sys\nprint('unlucky scene', file=sys.stderr)\n"
    script += "bpy.app.handlers.render_pre.append(lambda *_: os.kill(os.getpid(), 11))\n"
    with pytest.raises(AttemptFailed) as failed:
        harness.render(harness.job("moving", "1", script=script))
    log = failed.value.report.log
    assert failed.value.report.kind is FailureKind.RENDERER_CRASHED
    cold, warm = log.split("# before, in a warm Blender: ")
    assert "SIGSEGV" in warm.splitlines()[0]
    assert "unlucky scene" in cold
    assert "unlucky scene" in warm


def test_what_blender_says_of_the_scene_itself_costs_one_start(harness: WarmPoolHarness) -> None:
    """Given a scene without a camera: a Blender of the frame's own would say the same."""
    script = (
        "import bpy\nfor one in [o for o in bpy.data.objects if o.type == 'CAMERA']: bpy.data.objects.remove(one)\n"
    )
    with pytest.raises(AttemptFailed) as failed:
        harness.render(harness.job("moving", "1", script=script))
    report = failed.value.report
    assert (report.kind, report.reason) == (FailureKind.NO_CAMERA, "Cannot render, no camera")
    assert "in a warm Blender" not in report.log
    assert harness.starts == 1


def test_a_worn_out_blender_makes_way_for_a_new_one(harness: WarmPoolHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_process, "FRAMES_AT_MOST", 2)
    for frame in ("1", "2", "3"):
        harness.render(harness.job("moving", frame))
    assert harness.starts == 2
    monkeypatch.setattr(warm_process, "FRAMES_AT_MOST", 250)
    monkeypatch.setattr(warm_process, "SMALL_KB", 0)
    greedy = "import bpy\nkept = []\n"
    greedy += "bpy.app.handlers.render_post.append(lambda s, *_: kept.append(b'x' * 100_000_000 * s.frame_current))\n"
    for frame in ("1", "4", "2"):
        harness.render(harness.job("moving", frame, script=greedy))
    assert harness.starts == 4


def test_an_unused_blender_is_closed_and_so_is_one_whose_archive_goes(harness: WarmPoolHarness) -> None:
    harness.render(harness.job("moving", "1"))
    assert open_scenes(harness) == {harness.scenes / "moving.blend"}
    assert harness.pool.close_idle_once(time.monotonic()) is not None
    assert harness.pool.close_idle_once(time.monotonic() + 1000) is None
    assert all(map(gone, harness.pids()))
    harness.render(harness.job("moving", "1"))
    harness.pool.release(harness.folder)  # somebody else's archive
    assert open_scenes(harness)
    harness.pool.release(harness.scenes)
    assert not open_scenes(harness)
    assert all(map(gone, harness.pids()))


def test_another_scene_takes_the_place(harness: WarmPoolHarness) -> None:
    for scene in ("moving", "composed", "moving"):
        harness.render(harness.job(scene, "1"))
        assert open_scenes(harness) == {harness.scenes / f"{scene}.blend"}
    assert harness.starts == 3


_LONELY_WORKER = """
import sys, time
from pathlib import Path
from render_tasks.blender.render_job import RenderJob
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.cancellation import CancelToken
from render_tasks.blender.warm.pool import WarmBlenders
from tests.support.blender.render_jobs import NO_SANDBOX
renderer, scenes, folder, line = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
guard = OrphanGuard()
guard.start()
pool = WarmBlenders(folder / "warm", slots=2)
def job(scene):
    return RenderJob(renderer=renderer, renderer_md5="1", scene_key=scene, revision="1", memory_limit_kb=None,
               scene=scenes / scene, command_line=line, script="", frame="1", update_method="",
               gpu=False, cores=None, time_limit_s=None, scratch=folder / scene, scene_folder=scenes,
               sandbox=NO_SANDBOX)
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
    with contextlib.closing(WorkerHarness(tmp_path, SHEEPFOLD_WARM=warm)) as node:
        node.coordinator.archives |= {ref.md5: content for ref, content in (renderer, scene)}
        node.start().until_ready()
        places = {"renderer_archive": renderer[0], "scene_archives": (scene[0],), "scene_path": "moving.blend"}
        orders = [node.order(frame, **places) for frame in ("0003", "0001", "0002")]
        wait_for(lambda: all(order.lease_id in node.coordinator.frames for order in orders), 30)
        open_scenes = (scene[0].md5,) if warm == "true" else ()
        wait_for(lambda: (record := node.presence()) and not record.busy and record.warm == open_scenes)
        assert len(set(node.coordinator.frames.values())) == 3
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
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    lines = (
        "#!/bin/sh",
        f'echo $$ >> "{starts}"',
        f'until [ -e "{gate}" ]; do sleep 0.05; done',
        f'exec "{blender}" "$@"',
    )
    renderer = packed({"rend.exe": "\n".join((*lines, "")).encode()})
    jobs = [packed({"scene.blend": (scenes / f"{name}.blend").read_bytes()}) for name in ("moving", "ranged")]
    with contextlib.closing(WorkerHarness(tmp_path)) as node:
        node.coordinator.archives |= {ref.md5: content for ref, content in (renderer, *jobs)}
        node.start().until_ready()
        places = {"renderer_archive": renderer[0], "scene_path": "scene.blend"}

        def order(number: int) -> RenderOrder:
            job = number % 2
            return node.order(str(number), scene_archives=(jobs[job][0],), job_id=str(70 + job), **places)

        orders = [order(0)]
        wait_for(starts.exists, 30, "the first is being rendered")
        orders += [order(number) for number in range(1, 6)]
        # A slot takes five orders; whoever is not ready when a slot is free is passed by.
        wait_for(lambda: list(stages(node).values()).count(Stage.WAITING) == 4, 30, "four wait for the slot")
        gate.touch()
        wait_for(lambda: all(order.lease_id in node.coordinator.frames for order in orders), 60)
        assert len(starts.read_text().split()) == 2
        assert node.stop() < 10
