"""One frame under way: its clock, its progress, its limits, and what is reported of it."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from render_tasks.blender.memory import TreeMemory
from render_tasks.blender.output.left_files import TEMPORARY
from render_tasks.blender.output.progress import Progress
from render_tasks.blender.process import RendererProcess
from render_tasks.blender.render_run import RenderRun
from render_tasks.cancellation import CancelToken
from sheepfold.contract.api_messages import FailureKind
from tests.support.blender.render_jobs import job

#: Blender 3.4 of a quarter of a frame, with its own count of memory: 10.83 MB.
QUARTER = b"Fra:7 Mem:10.05M (Peak 10.83M) | Time:00:00.03 | Remaining:00:00.09 | Mem:0.90M, Peak:0.90M | Sample 1/8\n"
BLENDERS_OWN_KB = 11089


class Renderer:
    """A process that is there, this one, and that does nothing with the frame."""

    def __init__(self, folder: Path, exit_code: int = 0) -> None:
        self.folder, self.pid, self.is_launcher, self._exit_code = folder, os.getpid(), False, exit_code

    def exit_code(self) -> int:
        return self._exit_code


class RunHarness:
    """A run whose clock the test moves, and the progress it reported."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 100.0
        (folder / TEMPORARY).mkdir()
        self.progress: list[Progress] = []

    def run(self, line_filter: Callable[[str], str] = lambda line: line, **changes: Any) -> RenderRun:
        render_job = job(self.folder, self.folder / "scene.blend", self.folder, "7", **changes)
        run = RenderRun(render_job, self.progress.append, line_filter)
        run.begin()
        return run

    def renderer(self, exit_code: int = 0) -> RendererProcess:
        return cast("RendererProcess", Renderer(self.folder, exit_code))

    def over_after(self, looks: int) -> Callable[[float], bool]:
        """The frame is over at this look; until then each look takes as long as it may."""
        left = iter(range(looks))

        def is_over(timeout_s: float) -> bool:
            self.now += timeout_s
            return next(left, None) is None

        return is_over


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunHarness:
    harness = RunHarness(tmp_path)
    monkeypatch.setattr("time.monotonic", lambda: harness.now)
    return harness


# Clock


def test_the_clock_runs_from_the_begin_to_the_first_stop(harness: RunHarness) -> None:
    run = harness.run()
    harness.now += 3
    run.begin()
    harness.now += 5
    assert run.render_s == 5
    run.stop_clock()
    harness.now += 100
    run.stop_clock()
    frame = run.rendered(Path("frame_0007.png"))
    assert (frame.render_s, frame.began_at, frame.picture_at) == (5, 103, 108)
    assert frame.picture == Path("frame_0007.png")


# Progress


def test_progress_is_told_when_a_line_changes_it_however_the_output_is_cut(harness: RunHarness) -> None:
    run = harness.run()
    for at in range(0, len(QUARTER), 7):
        run.feed(QUARTER[at : at + 7])
    run.feed(b"Blender says something else\n" + QUARTER)
    assert [progress.fraction for progress in harness.progress] == [pytest.approx(0.25)]
    assert harness.progress[0].memory_kb == BLENDERS_OWN_KB


def test_a_last_line_without_an_end_counts_once_the_log_is_closed(harness: RunHarness) -> None:
    run = harness.run()
    run.feed(QUARTER.rstrip())
    assert not harness.progress
    run.close_log()
    assert len(harness.progress) == 1


def test_a_line_is_filtered_before_its_progress_is_read_and_stands_in_the_log(harness: RunHarness) -> None:
    run = harness.run(line_filter=lambda _line: "")
    run.feed(QUARTER)
    assert not harness.progress
    assert run.log_text() == QUARTER.decode()


def test_the_memory_told_is_the_larger_of_blenders_count_and_the_process_trees(harness: RunHarness) -> None:
    run = harness.run()
    run.feed(QUARTER)
    run.note_peak(5)
    assert run.memory_kb == BLENDERS_OWN_KB
    run.note_peak(2 * BLENDERS_OWN_KB)
    run.note_peak(BLENDERS_OWN_KB)
    run.tell()
    assert harness.progress[-1].memory_kb == run.memory_kb == 2 * BLENDERS_OWN_KB
    run.stop_clock()
    assert run.rendered(Path("x")).memory_kb == 2 * BLENDERS_OWN_KB


# Watching


def test_a_frame_that_is_over_in_time_met_no_limit(harness: RunHarness) -> None:
    run = harness.run(time_limit_s=60.0, memory_limit_kb=2**40)
    run.watch(harness.renderer(), CancelToken(), harness.over_after(5))
    assert run.limit_hit is None
    assert 0 < run.render_s < 60


def test_a_frame_that_takes_too_long_is_at_its_limit_at_the_next_look(harness: RunHarness) -> None:
    run = harness.run(time_limit_s=2.5)
    run.watch(harness.renderer(), CancelToken(), harness.over_after(1000))
    assert run.limit_hit == (FailureKind.TIME_LIMIT, "stopped after the limit of 2.5 seconds")
    assert 2.5 <= run.render_s < 3


def test_a_process_tree_that_holds_too_much_is_at_its_limit(harness: RunHarness) -> None:
    run = harness.run(memory_limit_kb=1)
    run.watch(harness.renderer(), CancelToken(), harness.over_after(1000))
    assert run.limit_hit
    kind, reason = run.limit_hit
    assert (kind, reason.startswith("stopped: it held")) == (FailureKind.OUT_OF_MEMORY, True)
    assert run.render_s < 1, "it was noticed before the PC swaps"


def test_a_cancel_ends_the_watch_and_is_no_limit(harness: RunHarness) -> None:
    run, token = harness.run(time_limit_s=60.0), CancelToken()
    looks = harness.over_after(1000)

    def cancelled_meanwhile(timeout_s: float) -> bool:
        token.cancel("the server said so")
        return looks(timeout_s)

    run.watch(harness.renderer(), token, cancelled_meanwhile)
    assert (run.limit_hit, run.render_s < 1) == (None, True)


def test_memory_is_sampled_at_every_look_of_a_short_render_and_seldom_of_a_long_one(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, sampled_at = harness.run(), list[float]()

    def sampled(_pid: int) -> TreeMemory:
        sampled_at.append(round(run.render_s, 1))
        return TreeMemory()

    monkeypatch.setattr("render_tasks.blender.render_run.measure", sampled)
    run.watch(harness.renderer(), CancelToken(), harness.over_after(20), always_measured_s=0.55)
    assert sampled_at[:5] == [0.1, 0.2, 0.3, 0.4, 0.5]
    gaps = [round(later - earlier, 1) for earlier, later in itertools.pairwise(sampled_at[4:])]
    assert gaps
    assert set(gaps) <= {0.3, 0.4}


def test_a_renderer_whose_memory_is_measured_tells_its_peak(harness: RunHarness) -> None:
    run = harness.run()
    run.watch(harness.renderer(), CancelToken(), harness.over_after(10))
    assert harness.progress[-1].memory_kb == run.memory_kb > 1000, "this Python is larger than a megabyte"


def test_output_arrives_while_another_thread_watches(tmp_path: Path) -> None:
    harness = RunHarness(tmp_path)
    run, fed = harness.run(), threading.Event()

    def feed() -> None:
        run.feed(QUARTER)
        fed.set()

    thread = threading.Thread(target=feed)
    thread.start()
    run.watch(harness.renderer(), CancelToken(), fed.wait)
    thread.join(5)
    assert [progress.fraction for progress in harness.progress if progress.fraction] == [pytest.approx(0.25)]


# Reports


def test_a_report_has_the_log_the_time_and_the_memory(harness: RunHarness) -> None:
    run = harness.run()
    run.feed(QUARTER)
    harness.now += 4
    run.stop_clock()
    report = run.report(FailureKind.TIME_LIMIT, "stopped after the limit")
    assert (report.kind, report.reason) == (FailureKind.TIME_LIMIT, "stopped after the limit")
    assert (report.log, report.render_s, report.memory_kb) == (QUARTER.decode(), 4, BLENDERS_OWN_KB)


def test_a_renderer_that_ended_by_itself_is_diagnosed_from_its_exit_and_its_log(harness: RunHarness) -> None:
    run = harness.run()
    run.feed(b"Error: no camera\n")
    run.stop_clock()
    assert run.exit_report(harness.renderer(), is_whole_log=True).kind is FailureKind.NO_CAMERA
    crashed = harness.run().exit_report(harness.renderer(-signal.SIGSEGV), is_whole_log=True)
    assert crashed.kind is FailureKind.RENDERER_CRASHED


def test_a_crash_report_makes_it_a_crash_and_stands_at_the_end_of_the_log(harness: RunHarness) -> None:
    run = harness.run()
    run.feed(b"Blender 3.4.1\n")
    (harness.folder / TEMPORARY / "scene.crash.txt").write_text("# backtrace\n")
    report = run.exit_report(harness.renderer(1), is_whole_log=True)
    assert report.kind is FailureKind.RENDERER_CRASHED
    assert report.log == "Blender 3.4.1\n\n# scene.crash.txt\n# backtrace\n"
