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
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.render_job import RenderedFrame, RenderJob
from render_tasks.blender.warm.pool import WarmBlenders
from render_tasks.blender.warm.process import WarmBlender
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from sheepfold.contract.api_messages import FailureKind
from tests.support.blender.render_jobs import NO_SANDBOX
from tests.support.nodes.worker_harness import wait_for

COMMAND_LINE = ".e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1"

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


@pytest.fixture
def guard() -> Iterator[OrphanGuard]:
    guard = OrphanGuard()
    guard.start()
    yield guard
    guard.stop()


class PoolHarness:
    """A pool, its renderer, and what was started."""

    def __init__(self, folder: Path, guard: OrphanGuard, slots: int = 1) -> None:
        self.folder, self.guard = folder, guard
        self.renderer = folder / "renderer"
        self.renderer.mkdir(exist_ok=True)
        (self.renderer / "rend.exe").write_text(_PROGRAM)
        (self.renderer / "rend.exe").chmod(0o755)
        #: The warm scenes after each change that was told.
        self.told: list[frozenset[str]] = []
        self.pool = WarmBlenders(
            folder / "warm", slots=slots, on_change=lambda: self.told.append(self.pool.warm_scenes())
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
        settings: dict[str, object] = {
            "renderer": self.renderer,
            "renderer_md5": "1" * 32,
            "scene_key": hashlib.md5(scene.encode()).hexdigest(),
            "revision": "1",
            "sandbox": NO_SANDBOX,
            "scene": path,
            "scene_folder": path.parent,
            "command_line": COMMAND_LINE,
            "script": "",
            "frame": str(frame),
            "update_method": "remainingtime",
            "gpu": False,
            "cores": None,
            "time_limit_s": None,
            "memory_limit_kb": None,
            "scratch": self.folder / f"{scene}.{frame}",
        }
        return RenderJob(**(settings | changes))  # type: ignore[arg-type]

    def render(self, job: RenderJob, switch: CancelToken | None = None) -> RenderedFrame:
        return self.pool.render(job, switch or CancelToken(), self.guard, lambda _: None)

    def alive(self) -> list[int]:
        return [int(words[1]) for words in self.starts() if not gone(int(words[1]))]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def bench(tmp_path: Path, guard: OrphanGuard) -> Iterator[PoolHarness]:
    bench = PoolHarness(tmp_path, guard)
    with contextlib.closing(bench.pool):
        yield bench
    assert not bench.alive()
    assert not list((tmp_path / "warm").glob("*"))


def test_one_renderer_makes_many_frames_and_each_has_its_own_memory(bench: PoolHarness) -> None:
    rendered = [bench.render(bench.job(frame)) for frame in (3, 1, 2)]
    assert bench.kinds() == ["warm"]
    assert [job.picture.read_bytes() for job in rendered] == [b"warm"] * 3
    assert rendered[0].memory_kb == 900 * 1024
    assert rendered[1].memory_kb < 100 * 1024  # the peak it prints is that of its life


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (50, "the renderer was killed from outside (SIGKILL)"),
        (51, "it left no picture"),
        (52, "bad luck"),
        (54, "the renderer ended with exit code 3"),
    ],
)
def test_a_frame_that_fails_warm_is_rendered_cold_and_so_are_those_after_it(
    bench: PoolHarness, frame: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, frame, 2):
        expected = b"warm" if number == 1 else b"cold"
        assert bench.render(bench.job(number)).picture.read_bytes() == expected
    assert bench.kinds() == ["warm", "cold", "cold"]
    assert f"frame {frame} of scene.blend failed in a warm Blender ({said}" in caplog.text
    assert bench.render(bench.job(1, "other.blend")).picture.read_bytes() == b"warm"


def test_an_unsuited_scene_is_cold_without_alarm(bench: PoolHarness, caplog: pytest.LogCaptureFixture) -> None:
    assert bench.render(bench.job(53)).picture.read_bytes() == b"cold"
    assert bench.render(bench.job(1)).picture.read_bytes() == b"cold"
    assert bench.kinds() == ["warm", "cold", "cold"]
    assert "failed" not in caplog.text


def test_a_failure_after_all_tells_both_logs(bench: PoolHarness) -> None:
    with pytest.raises(AttemptFailed) as failed:
        bench.render(bench.job(66))
    assert failed.value.report.kind is FailureKind.NO_OUTPUT
    cold, warm = failed.value.report.log.split("# before, in a warm Blender: bad luck\n")
    assert "cold 66" in cold
    assert "oh dear" in warm


def test_a_renderer_that_dies_after_its_picture_has_done_its_work(bench: PoolHarness) -> None:
    assert bench.render(bench.job(57)).picture.read_bytes() == b"warm"
    wait_for(lambda: not bench.alive())
    # Whether it is noticed now or with the next order: no frame is lost.
    assert bench.render(bench.job(1)).picture.is_file()


def test_one_that_dies_while_it_waits_is_replaced_without_blame(bench: PoolHarness) -> None:
    bench.render(bench.job(1))
    psutil.Process(bench.alive()[0]).kill()
    wait_for(lambda: not bench.alive())
    assert bench.render(bench.job(2)).picture.read_bytes() == b"warm"
    assert bench.kinds() == ["warm", "warm"]


def test_a_renderer_that_hides_its_output_is_ended_by_the_time_limit(bench: PoolHarness) -> None:
    with pytest.raises(AttemptFailed) as failed:
        bench.render(bench.job(55, time_limit_s=1.0))
    assert failed.value.report.kind is FailureKind.TIME_LIMIT
    assert 1 <= failed.value.report.render_s < 3
    assert bench.render(bench.job(1)).picture.read_bytes() == b"cold"


def test_a_fresh_renderer_that_holds_more_than_it_may_is_ended_and_the_scene_stays_cold(bench: PoolHarness) -> None:
    with pytest.raises(AttemptFailed) as failed:
        bench.render(bench.job(58, memory_limit_kb=100 * 1024))
    assert failed.value.report.kind is FailureKind.OUT_OF_MEMORY
    assert re.fullmatch(
        r"stopped: it held \S+ GB, and a render on this PC may hold 0.0977 GB", failed.value.report.reason
    )
    assert "Fra:58" in failed.value.report.log
    assert not bench.alive()
    assert bench.render(bench.job(1)).picture.read_bytes() == b"cold"


def test_what_earlier_frames_left_behind_is_no_reason_to_fail_a_frame(
    bench: PoolHarness, caplog: pytest.LogCaptureFixture
) -> None:
    bench.render(bench.job(1, memory_limit_kb=100 * 1024))
    assert bench.render(bench.job(58, memory_limit_kb=100 * 1024)).picture.read_bytes() == b"cold"
    assert "failed in a warm Blender (stopped: it held" in caplog.text
    assert bench.kinds() == ["warm", "cold"]


def test_half_of_the_limit_is_as_much_as_a_renderer_may_grow_to(
    bench: PoolHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = iter([400_000, 900_000, 1_100_000])
    monkeypatch.setattr("render_tasks.blender.warm.process.resident_kb", lambda _pid: next(held))
    for frame in (1, 2, 3, 4):
        bench.render(bench.job(frame, memory_limit_kb=2_000_000))
        if frame == 3:
            held = iter([400_000])
    assert bench.kinds() == ["warm", "warm"]


def test_scenes_are_warm_from_the_start_of_a_renderer_to_its_end_and_each_change_is_told(bench: PoolHarness) -> None:
    first, other = bench.job(1), bench.job(1, "other.blend")
    while_rendering: list[frozenset[str]] = []
    bench.pool.render(first, CancelToken(), bench.guard, lambda _: while_rendering.append(bench.pool.warm_scenes()))
    assert set(while_rendering) == {frozenset({first.scene_key})}
    bench.render(bench.job(2))
    bench.render(other)
    bench.render(bench.job(52, "other.blend"))  # fails warm, is rendered cold
    assert bench.told == [{first.scene_key}, {other.scene_key}, frozenset()]


def test_a_cancel_takes_children_along_and_blames_nobody(bench: PoolHarness) -> None:
    switch, ended = CancelToken(), threading.Event()

    def attempt() -> None:
        with pytest.raises(AttemptDropped):
            bench.render(bench.job(56), switch)
        ended.set()

    thread = threading.Thread(target=attempt)
    thread.start()
    path = bench.renderer / "child"
    child = int(wait_for(lambda: path.exists() and path.read_text()))
    began = time.monotonic()
    switch.cancel("cancelled")
    assert ended.wait(10)
    assert time.monotonic() - began < 2
    assert gone(child)
    assert not bench.alive()
    assert bench.render(bench.job(1)).picture.read_bytes() == b"warm"


def test_an_attempt_cancelled_before_its_turn_leaves_the_renderer_open(bench: PoolHarness) -> None:
    bench.render(bench.job(1))
    switch = CancelToken()
    switch.cancel("cancelled")
    with pytest.raises(AttemptDropped):
        bench.render(bench.job(2), switch)
    assert len(bench.alive()) == 1


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
def test_anything_else_in_an_order_means_another_process(bench: PoolHarness, changes: dict[str, object]) -> None:
    bench.render(bench.job(1))
    bench.render(bench.job(2, **changes))  # type: ignore[arg-type]
    assert bench.kinds() == ["warm", "warm"]
    assert len(bench.alive()) == 1  # one slot, one renderer


def test_what_the_scene_is_not_made_for_starts_nothing_warm(bench: PoolHarness) -> None:
    (bench.folder / "scenes").mkdir()
    (bench.folder / "scenes" / "text.blend").write_text("# scripted\nact() { :; }\n")
    bench.render(bench.job(1, "text.blend"))
    bench.render(bench.job(1, is_test=True))
    bench.render(bench.job(1, script="import sys; print(sys.argv)"))
    assert bench.kinds() == ["cold"] * 3


def test_a_frame_that_is_rendered_a_second_time_has_a_renderer_of_its_own_and_those_after_it_are_warm(
    bench: PoolHarness,
) -> None:
    bench.render(bench.job(1))
    assert bench.render(bench.job(1, is_second_opinion=True)).picture.read_bytes() == b"cold"
    assert bench.render(bench.job(2)).picture.read_bytes() == b"warm"
    assert bench.kinds() == ["warm", "cold", "warm"]


def test_a_cold_frame_takes_the_place_of_one_that_waits(bench: PoolHarness) -> None:
    bench.render(bench.job(1))
    bench.render(bench.job(1, is_test=True))
    assert not bench.pool.open_keys()


def test_two_slots_keep_two_and_the_one_used_least_lately_makes_way(tmp_path: Path, guard: OrphanGuard) -> None:
    bench = PoolHarness(tmp_path, guard, slots=2)
    with contextlib.closing(bench.pool):
        for scene in ("a.blend", "b.blend", "a.blend", "c.blend"):
            bench.render(bench.job(1, scene))
        assert {key.scene.name for key in bench.pool.open_keys()} == {"a.blend", "c.blend"}
        assert len(bench.alive()) == 2
    assert not bench.alive()


def test_threads_that_share_a_scene_have_a_renderer_each(tmp_path: Path, guard: OrphanGuard) -> None:
    bench = PoolHarness(tmp_path, guard, slots=2)

    def some(first: int) -> None:
        for frame in range(first, first + 5):
            assert bench.render(bench.job(frame)).picture.read_bytes() == b"warm"

    with contextlib.closing(bench.pool):
        threads = [threading.Thread(target=some, args=(first,)) for first in (1, 11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bench.kinds() == ["warm", "warm"]


def test_nobody_has_to_ask_for_an_unused_one_to_be_closed(bench: PoolHarness) -> None:
    pool = WarmBlenders(bench.folder / "warm", slots=1, idle_s=0.2)
    with contextlib.closing(pool):
        pool.render(bench.job(1), CancelToken(), bench.guard, lambda _: None)
        wait_for(lambda: not bench.alive(), 5)


def test_after_the_node_left_nothing_stays_open(bench: PoolHarness) -> None:
    bench.pool.close()
    assert bench.render(bench.job(1)).picture.read_bytes() == b"cold"
    assert not bench.alive()


def test_an_archive_that_makes_room_takes_its_renderer_along(bench: PoolHarness) -> None:
    md5 = "0" * 32
    scene = bench.folder / "archives" / md5 / "scene.blend"
    scene.parent.mkdir(parents=True)
    scene.write_bytes(b"BLENDER-v304RENDH")
    cache = ArchiveCache(bench.folder / "archives", lambda *_: None, quota_bytes=1, on_evict=bench.pool.release)
    bench.render(bench.job(1, scene=str(scene), scratch=bench.folder / "attempt"))
    assert bench.alive()
    cache.free_space(0)
    assert not scene.exists()
    assert not bench.alive()


def test_a_process_says_why_it_should_be_closed(bench: PoolHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    process = WarmBlender("key", bench.folder / "warm" / "one", bench.guard)
    with contextlib.closing(process):
        assert process.why_close() == "it ended"
        process.render(bench.job(1), CancelToken(), lambda _: None)
        held = iter([3_000_000, 4_000_000, 4_600_000])
        monkeypatch.setattr("render_tasks.blender.warm.process.resident_kb", lambda _pid: next(held))
        assert process.why_close() == ""
        assert process.why_close() == ""
        assert process.why_close() == "it grew from 2929 to 4492 MB"
        process.frames = 250
        assert process.why_close() == "it has rendered 250 frames"


def test_what_an_open_blender_writes_after_its_frame_changes_no_picture(bench: PoolHarness) -> None:
    first = bench.render(bench.job(60))
    bench.render(bench.job(61))
    assert first.picture.read_bytes() == b"warm"
    assert bench.kinds() == ["warm"]
