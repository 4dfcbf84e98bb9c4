"""The Blenders that stay open, with a renderer in their place that misbehaves as it is told."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from render_tasks.archives.cache import ArchiveCache
from render_tasks.blender.memory import TreeMemory
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.render_job import RenderedFrame, RenderJob
from render_tasks.blender.warm.pool import WarmBlenders
from render_tasks.blender.warm.process import WarmBlender
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from sheepfold.contract.api_messages import FailureKind
from tests.support.blender.render_jobs import gone, job
from tests.support.nodes.null_renderer import COMMAND_LINE
from tests.support.nodes.worker_harness import wait_for

#: Speaks the wire as the driver does; a frame by itself (-f) always succeeds, but for 66.
_PROGRAM = f"""#!{sys.executable} -IS
import json, os, signal, subprocess, sys, time
from pathlib import Path
words = sys.argv[1:]
with open(Path(__file__).with_name("starts"), "a") as starts:
    print("cold" if "-f" in words else "warm", os.getpid(), *words, file=starts)
if "-f" in words:
    frame = int(words[words.index("-f") + 1])
    print("cold", frame, flush=True)
    if frame != 66:
        Path(words[words.index("-o") + 1] + "%04d.png" % frame).write_bytes(b"cold")
    sys.exit()
word = json.loads(sys.stdin.readline())["word"]
def reply(number, kind="done", why=""):
    sys.stdout.write("\\n" + word + json.dumps({{"number": number, "kind": kind, "why": why}}) + "\\n")
    sys.stdout.flush()
for line in sys.stdin:
    order = json.loads(line)
    frame, number = order["frame"], order["number"]
    print("Fra:%d Mem:1.00M (Peak 900.00M) | Time:00:00.01 | Remaining:00:00.03 | S" % frame, flush=True)
    if frame == 50: os.kill(os.getpid(), signal.SIGKILL)
    if frame == 51: reply(number); continue
    if frame in (52, 66): print("oh dear", flush=True); reply(number, "failed", "bad luck"); continue
    if frame == 53: reply(number, "unsuited", "a simulation (Cube)"); continue
    if frame == 54: reply(number - 1); reply(number + 1); print(word + "[]"); print(word * 900); sys.exit(3)
    if frame == 58: held = bytearray(b"x") * 300_000_000; time.sleep(60)
    if frame == 55: os.close(1); os.close(2); time.sleep(60)
    if frame == 56:
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        Path(__file__).with_name("child").write_text(str(child.pid))
        time.sleep(60)
    if frame == 61: kept.write(b"later"); kept.flush()
    kept = open(order["prefix"] + "%04d.png" % frame, "wb")
    kept.write(b"warm"); kept.flush()
    reply(number)
    if frame == 57: os.kill(os.getpid(), signal.SIGSEGV)
"""


class PoolHarness:
    """A pool, its renderer, and what was started."""

    def __init__(self, folder: Path, guard: OrphanGuard, slots: int = 1) -> None:
        self.folder, self.guard = folder, guard
        self.renderer = folder / "renderer"
        self.renderer.mkdir(exist_ok=True)
        (self.renderer / "rend.exe").write_text(_PROGRAM)
        (self.renderer / "rend.exe").chmod(0o755)
        #: The warm scenes after each change that was told.
        self.warm_scenes_seen: list[frozenset[str]] = []
        self.pool = WarmBlenders(
            folder / "warm", slots=slots, on_change=lambda: self.warm_scenes_seen.append(self.pool.warm_scenes())
        )

    def starts(self) -> list[list[str]]:
        path = self.renderer / "starts"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def kinds(self) -> list[str]:
        return [words[0] for words in self.starts()]

    def job(self, frame: int, scene: str = "scene.blend", **changes: object) -> RenderJob:
        path = self.folder / "scenes" / scene
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(b"BLENDER-v304RENDH")
        settings = {
            "scene_key": hashlib.md5(scene.encode()).hexdigest(),
            "script": "",
            "scratch": self.folder / f"{scene}.{frame}",
        }
        return job(self.renderer, path, self.folder, str(frame), **(settings | changes))

    def render(self, job: RenderJob, token: CancelToken | None = None) -> RenderedFrame:
        return self.pool.render(job, token or CancelToken(), self.guard, lambda _: None)

    def alive(self) -> list[int]:
        return [int(words[1]) for words in self.starts() if not gone(int(words[1]))]


@pytest.fixture
def harness(tmp_path: Path, guard: OrphanGuard) -> Iterator[PoolHarness]:
    harness = PoolHarness(tmp_path, guard)
    with contextlib.closing(harness.pool):
        yield harness
    assert not harness.alive()
    assert not list((tmp_path / "warm").glob("*"))


def test_one_renderer_makes_many_frames_and_each_has_its_own_memory(harness: PoolHarness) -> None:
    rendered = [harness.render(harness.job(frame)) for frame in (3, 1, 2)]
    assert harness.kinds() == ["warm"]
    assert [job.picture.read_bytes() for job in rendered] == [b"warm"] * 3
    assert rendered[0].memory_kb == 900 * 1024
    assert rendered[1].memory_kb < 100 * 1024  # the peak it prints is that of its life


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (50, "the renderer was killed from outside (SIGKILL)"),
        (51, "it left no picture"),
        (52, "bad luck"),
        (54, "the renderer ended with exit code 3"),
    ],
)
def test_a_frame_that_fails_warm_is_rendered_cold_and_so_are_those_after_it(
    harness: PoolHarness, frame: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, frame, 2):
        expected = b"warm" if number == 1 else b"cold"
        assert harness.render(harness.job(number)).picture.read_bytes() == expected
    assert harness.kinds() == ["warm", "cold", "cold"]
    assert f"frame {frame} of scene.blend failed in a warm Blender ({reason}" in caplog.text
    assert harness.render(harness.job(1, "other.blend")).picture.read_bytes() == b"warm"


def test_an_unsuited_scene_is_cold_without_alarm(harness: PoolHarness, caplog: pytest.LogCaptureFixture) -> None:
    assert harness.render(harness.job(53)).picture.read_bytes() == b"cold"
    assert harness.render(harness.job(1)).picture.read_bytes() == b"cold"
    assert harness.kinds() == ["warm", "cold", "cold"]
    assert "failed" not in caplog.text


def test_a_failure_after_all_tells_both_logs(harness: PoolHarness) -> None:
    with pytest.raises(AttemptFailed) as failed:
        harness.render(harness.job(66))
    assert failed.value.report.kind is FailureKind.NO_OUTPUT
    cold, warm = failed.value.report.log.split("# before, in a warm Blender: bad luck\n")
    assert "cold 66" in cold
    assert "oh dear" in warm


def test_a_renderer_that_dies_after_its_picture_has_done_its_work(harness: PoolHarness) -> None:
    assert harness.render(harness.job(57)).picture.read_bytes() == b"warm"
    wait_for(lambda: not harness.alive())
    # Whether it is noticed now or with the next order: no frame is lost.
    assert harness.render(harness.job(1)).picture.is_file()


def test_one_that_dies_while_it_waits_is_replaced_without_blame(harness: PoolHarness) -> None:
    harness.render(harness.job(1))
    psutil.Process(harness.alive()[0]).kill()
    wait_for(lambda: not harness.alive())
    assert harness.render(harness.job(2)).picture.read_bytes() == b"warm"
    assert harness.kinds() == ["warm", "warm"]


def test_a_renderer_that_hides_its_output_is_ended_by_the_time_limit(harness: PoolHarness) -> None:
    with pytest.raises(AttemptFailed) as failed:
        harness.render(harness.job(55, time_limit_s=1.0))
    assert failed.value.report.kind is FailureKind.TIME_LIMIT
    assert 1 <= failed.value.report.render_s < 3
    assert harness.render(harness.job(1)).picture.read_bytes() == b"cold"


def test_a_fresh_renderer_that_holds_more_than_it_may_is_ended_and_the_scene_stays_cold(harness: PoolHarness) -> None:
    with pytest.raises(AttemptFailed) as failed:
        harness.render(harness.job(58, memory_limit_kb=100 * 1024))
    assert failed.value.report.kind is FailureKind.OUT_OF_MEMORY
    assert re.fullmatch(
        r"stopped: it held \S+ GB, and a render on this PC may hold 0.0977 GB", failed.value.report.reason
    )
    assert "Fra:58" in failed.value.report.log
    assert not harness.alive()
    assert harness.render(harness.job(1)).picture.read_bytes() == b"cold"


def test_what_earlier_frames_left_behind_is_no_reason_to_fail_a_frame(
    harness: PoolHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.render(harness.job(1, memory_limit_kb=100 * 1024))
    assert harness.render(harness.job(58, memory_limit_kb=100 * 1024)).picture.read_bytes() == b"cold"
    assert "failed in a warm Blender (stopped: it held" in caplog.text
    assert harness.kinds() == ["warm", "cold"]


def test_half_of_the_limit_is_as_much_as_a_renderer_may_grow_to(
    harness: PoolHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = iter([400_000, 900_000, 1_100_000])
    monkeypatch.setattr("render_tasks.blender.warm.process.take_peak", lambda _pid: TreeMemory(now_kb=next(held)))
    for frame in (1, 2, 3, 4):
        harness.render(harness.job(frame, memory_limit_kb=2_000_000))
        if frame == 3:
            held = iter([400_000])
    assert harness.kinds() == ["warm", "warm"]


def test_scenes_are_warm_from_the_start_of_a_renderer_to_its_end_and_each_change_is_told(harness: PoolHarness) -> None:
    first, other = harness.job(1), harness.job(1, "other.blend")
    while_rendering: list[frozenset[str]] = []
    harness.pool.render(
        first, CancelToken(), harness.guard, lambda _: while_rendering.append(harness.pool.warm_scenes())
    )
    assert set(while_rendering) == {frozenset({first.scene_key})}
    harness.render(harness.job(2))
    harness.render(other)
    harness.render(harness.job(52, "other.blend"))  # fails warm, is rendered cold
    assert harness.warm_scenes_seen == [{first.scene_key}, {other.scene_key}, frozenset()]


def test_a_cancel_takes_children_along_and_blames_nobody(harness: PoolHarness) -> None:
    token, ended = CancelToken(), threading.Event()

    def attempt() -> None:
        with pytest.raises(AttemptDropped):
            harness.render(harness.job(56), token)
        ended.set()

    thread = threading.Thread(target=attempt)
    thread.start()
    path = harness.renderer / "child"
    child = int(wait_for(lambda: path.exists() and path.read_text()))
    began = time.monotonic()
    token.cancel("cancelled")
    assert ended.wait(10)
    assert time.monotonic() - began < 2
    assert gone(child)
    assert not harness.alive()
    assert harness.render(harness.job(1)).picture.read_bytes() == b"warm"


def test_an_attempt_cancelled_before_its_turn_leaves_the_renderer_open(harness: PoolHarness) -> None:
    harness.render(harness.job(1))
    token = CancelToken()
    token.cancel("cancelled")
    with pytest.raises(AttemptDropped):
        harness.render(harness.job(2), token)
    assert len(harness.alive()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"script": "import bpy"},
        {"command_line": COMMAND_LINE.replace("-x 1", "-x 0")},
        {"cores": 1},
        {"revision": "2"},
        {"scene_key": "2" * 32},
        {"renderer_md5": "2" * 32},
        {"gpu": True},
        {"scene": "other.blend"},
    ],
)
def test_anything_else_in_an_order_means_another_process(harness: PoolHarness, changes: dict[str, object]) -> None:
    harness.render(harness.job(1))
    harness.render(harness.job(2, **changes))  # type: ignore[arg-type]
    assert harness.kinds() == ["warm", "warm"]
    assert len(harness.alive()) == 1  # one slot, one renderer


def test_what_the_scene_is_not_made_for_starts_nothing_warm(harness: PoolHarness) -> None:
    (harness.folder / "scenes").mkdir()
    (harness.folder / "scenes" / "text.blend").write_text("# scripted\nact() { :; }\n")
    harness.render(harness.job(1, "text.blend"))
    harness.render(harness.job(1, is_test=True))
    harness.render(harness.job(1, script="import sys; print(sys.argv)"))
    assert harness.kinds() == ["cold"] * 3


def test_a_frame_that_is_rendered_a_second_time_has_a_renderer_of_its_own_and_those_after_it_are_warm(
    harness: PoolHarness,
) -> None:
    harness.render(harness.job(1))
    assert harness.render(harness.job(1, is_second_opinion=True)).picture.read_bytes() == b"cold"
    assert harness.render(harness.job(2)).picture.read_bytes() == b"warm"
    assert harness.kinds() == ["warm", "cold", "warm"]


def test_a_cold_frame_takes_the_place_of_one_that_waits(harness: PoolHarness) -> None:
    harness.render(harness.job(1))
    harness.render(harness.job(1, is_test=True))
    assert not harness.pool.open_keys()


def test_two_slots_keep_two_and_the_one_used_least_lately_makes_way(tmp_path: Path, guard: OrphanGuard) -> None:
    harness = PoolHarness(tmp_path, guard, slots=2)
    with contextlib.closing(harness.pool):
        for scene in ("a.blend", "b.blend", "a.blend", "c.blend"):
            harness.render(harness.job(1, scene))
        assert {key.scene.name for key in harness.pool.open_keys()} == {"a.blend", "c.blend"}
        assert len(harness.alive()) == 2
    assert not harness.alive()


def test_threads_that_share_a_scene_have_a_renderer_each(tmp_path: Path, guard: OrphanGuard) -> None:
    harness = PoolHarness(tmp_path, guard, slots=2)

    def some(first: int) -> None:
        for frame in range(first, first + 5):
            assert harness.render(harness.job(frame)).picture.read_bytes() == b"warm"

    with contextlib.closing(harness.pool):
        threads = [threading.Thread(target=some, args=(first,)) for first in (1, 11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert harness.kinds() == ["warm", "warm"]


def test_nobody_has_to_ask_for_an_unused_one_to_be_closed(harness: PoolHarness) -> None:
    pool = WarmBlenders(harness.folder / "warm", slots=1, idle_s=0.2)
    with contextlib.closing(pool):
        pool.render(harness.job(1), CancelToken(), harness.guard, lambda _: None)
        wait_for(lambda: not harness.alive(), 5)


def test_after_the_node_left_nothing_stays_open(harness: PoolHarness) -> None:
    harness.pool.close()
    assert harness.render(harness.job(1)).picture.read_bytes() == b"cold"
    assert not harness.alive()


def test_an_archive_that_makes_room_takes_its_renderer_along(harness: PoolHarness) -> None:
    md5 = "0" * 32
    scene = harness.folder / "archives" / md5 / "scene.blend"
    scene.parent.mkdir(parents=True)
    scene.write_bytes(b"BLENDER-v304RENDH")
    cache = ArchiveCache(harness.folder / "archives", lambda *_: None, quota_bytes=1, on_evict=harness.pool.release)
    harness.render(harness.job(1, scene=str(scene), scratch=harness.folder / "attempt"))
    assert harness.alive()
    cache.free_space(0)
    assert not scene.exists()
    assert not harness.alive()


def test_a_process_says_why_it_should_be_closed(harness: PoolHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    process = WarmBlender("key", harness.folder / "warm" / "one", harness.guard)
    with contextlib.closing(process):
        assert process.why_close() == "it ended"
        held = iter([3_000_000, 4_000_000, 4_600_000])
        monkeypatch.setattr("render_tasks.blender.warm.process.take_peak", lambda _pid: TreeMemory(now_kb=next(held)))
        for frame, why in enumerate(["", "", "it grew from 2929 to 4492 MB"], 1):
            process.render(harness.job(frame), CancelToken(), lambda _: None)
            assert process.why_close() == why
        process.frames = 250
        assert process.why_close() == "it has rendered 250 frames"


def test_what_an_open_blender_writes_after_its_frame_changes_no_picture(harness: PoolHarness) -> None:
    first = harness.render(harness.job(60))
    harness.render(harness.job(61))
    assert first.picture.read_bytes() == b"warm"
    assert harness.kinds() == ["warm"]
