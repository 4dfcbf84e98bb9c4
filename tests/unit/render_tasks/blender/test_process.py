"""A renderer's folder, and its process: started, written to, watched and ended; with renderers of a few shell lines."""

from __future__ import annotations

import dataclasses
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import cast

import pytest

from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.process import RendererProcess, binary_of, prepare_folder
from render_tasks.blender.render_job import RenderJob
from render_tasks.blender.sandbox.facts import HostFacts
from render_tasks.errors import AttemptFailed
from sheepfold.contract.api_messages import FailureKind
from tests.support.blender.render_jobs import NO_SANDBOX, fake, gone, gone_soon, job

#: A shell starts, prints and ends within this time on a busy machine (seconds).
SOON_S = 20


class RecordingGuard:
    """What the guard is told of renders, without a process of its own."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def about_to_start(self, mark: str) -> None:
        self.told.append(("about to start", mark))

    def started(self, mark: str, pid: int) -> None:
        self.told.append(("started", mark, str(pid)))

    def over(self, mark: str) -> None:
        self.told.append(("over", mark))


class Output:
    """What a renderer printed, to be waited for."""

    def __init__(self) -> None:
        self._chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.text = ""

    def take(self, chunk: bytes) -> None:
        self._chunks.put(chunk)

    def until(self, words: str) -> str:
        """Everything up to now, with these words in it; fails when they do not come."""
        while words not in self.text:
            self.text += self._chunks.get(timeout=SOON_S).decode()
        return self.text


class ProcessHarness:
    """A process that was not started yet, and what it tells its guard and its reader."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.guard, self.output = folder, RecordingGuard(), Output()
        self.home = folder / "attempt"
        self.process = RendererProcess(self.home, cast("OrphanGuard", self.guard), self.output.take)

    def start(self, body: str, *, stdin: int = subprocess.DEVNULL) -> RendererProcess:
        """Starts a renderer that does these lines of shell."""
        render_job = fake(self._folder, body)
        prepare_folder(self.home, render_job)
        binary = binary_of(render_job)
        self.process.start([str(binary), "an argument"], render_job, binary, stdin=stdin)
        return self.process


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ProcessHarness]:
    harness = ProcessHarness(tmp_path)
    yield harness
    harness.process.end()


@pytest.fixture
def render_job(tmp_path: Path) -> RenderJob:
    (tmp_path / "renderer").mkdir()
    (tmp_path / "renderer" / "rend.exe").touch()
    (tmp_path / "scene.blend").touch()
    return job(tmp_path / "renderer", tmp_path / "scene.blend", tmp_path, "7")


def test_the_binary_to_start_is_the_renderer_archives(render_job: RenderJob) -> None:
    assert binary_of(render_job) == render_job.renderer / "rend.exe"


@pytest.mark.parametrize(("missing", "file_name"), [("scene", "scene.blend"), ("renderer", "rend.exe")])
def test_an_archive_without_what_the_order_names_is_a_bad_archive(
    render_job: RenderJob, missing: str, file_name: str
) -> None:
    (render_job.scene if missing == "scene" else render_job.renderer / "rend.exe").unlink()
    with pytest.raises(AttemptFailed) as failed:
        binary_of(render_job)
    assert failed.value.report.kind is FailureKind.BAD_ARCHIVE
    assert failed.value.report.reason == f"the {missing} archive holds no {file_name}"


def test_a_folder_holds_nothing_of_the_frame_before_but_empty_folders_and_the_scripts(
    render_job: RenderJob, tmp_path: Path
) -> None:
    folder = tmp_path / "attempt"
    for left in ("out", "tmp/deep", "config"):
        (folder / left).mkdir(parents=True)
        (folder / left / "left.png").touch()
    script = prepare_folder(folder, render_job)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"script.py", "server.py"}
    assert script == folder / "script.py"
    assert {"out", "tmp", "config"} <= {path.name for path in folder.iterdir() if path.is_dir()}


def test_the_servers_script_is_kept_to_the_letter_and_run_by_ours(render_job: RenderJob, tmp_path: Path) -> None:
    script = prepare_folder(tmp_path / "attempt", render_job)
    server_script = tmp_path / "attempt" / "server.py"
    assert server_script.read_text("utf-8") == render_job.script
    assert str(server_script) in script.read_text("utf-8")


def test_a_renderer_that_was_never_started_can_be_ended_and_the_guard_forgets_it(tmp_path: Path) -> None:
    guard = RecordingGuard()
    renderers = [RendererProcess(tmp_path, cast("OrphanGuard", guard), lambda _chunk: None) for _ in range(2)]
    for renderer in renderers:
        assert not renderer.is_started
        renderer.drain()
        renderer.end()
    assert [words[0] for words in guard.told] == ["over", "over"]
    assert len({words[1] for words in guard.told}) == 2, "each has a mark of its own"


def test_a_renderer_runs_in_its_folder_and_session_with_its_mark_and_its_output_is_read(
    harness: ProcessHarness,
) -> None:
    process = harness.start('echo "in $PWD: $1, $SHEEPFOLD_RENDER_MARK, home $HOME"; echo "to stderr" >&2; read line')
    printed = harness.output.until("to stderr")
    (before, mark), started = harness.guard.told
    assert (before, started) == ("about to start", ("started", mark, str(process.pid)))
    assert f"in {harness.home}: an argument, {mark}, home {harness.home}" in printed
    assert process.is_started
    assert not process.is_launcher


@pytest.mark.skipif(os.name != "posix", reason="sessions are POSIX's")
def test_a_renderer_has_a_session_of_its_own(harness: ProcessHarness) -> None:
    process = harness.start("echo ready; read line", stdin=PIPE)
    harness.output.until("ready")
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
@pytest.mark.parametrize(
    ("mode", "kind", "reason"),
    [
        pytest.param(0o755, FailureKind.BAD_ARCHIVE, "Exec format error", id="no program"),
        pytest.param(0o644, FailureKind.FOLDER, "Permission denied", id="a program this PC does not let start"),
    ],
)
def test_a_renderer_that_cannot_be_started_says_whose_fault_it_is_and_the_guard_forgets_it(
    harness: ProcessHarness, render_job: RenderJob, mode: int, kind: FailureKind, reason: str
) -> None:
    prepare_folder(harness.home, render_job)
    # No program of the system starts it here, so that the system itself refuses.
    host = HostFacts(system=sys.platform, machine="", uid=os.getuid())
    render_job = dataclasses.replace(render_job, sandbox=dataclasses.replace(NO_SANDBOX, host=host))
    binary = binary_of(render_job)
    binary.chmod(mode)
    with pytest.raises(AttemptFailed) as failed:
        harness.process.start([str(binary)], render_job, binary)
    assert failed.value.report.kind is kind
    assert failed.value.report.reason == f"the renderer cannot be started: {reason}"
    assert not harness.process.is_started
    harness.process.end()
    assert [words[0] for words in harness.guard.told] == ["about to start", "over"]


def test_lines_reach_its_standard_input_and_are_lost_once_it_has_ended(harness: ProcessHarness) -> None:
    process = harness.start('while read line; do echo "got $line"; [ "$line" != end ] || exit 3; done', stdin=PIPE)
    process.send(b"first\n")
    assert harness.output.until("got first")
    process.send(b"end\n")
    assert process.has_exited(SOON_S)
    process.send(b"late\n")
    assert process.exit_code() == 3
    process.end()
    assert "late" not in harness.output.until("got end")


def test_it_has_exited_when_it_ended_by_itself_and_not_before(harness: ProcessHarness) -> None:
    process = harness.start("echo ready; read line; exit 7", stdin=PIPE)
    harness.output.until("ready")
    assert not process.has_exited()
    assert not process.has_exited(0.01)
    process.send(b"go on\n")
    assert process.has_exited(SOON_S)
    assert (process.has_exited(), process.exit_code()) == (True, 7)


@pytest.mark.skipif(os.name != "posix", reason="a child that left the tree is found by its mark on POSIX only")
def test_the_end_kills_it_with_the_children_that_left_its_session_and_reads_its_last_output(
    harness: ProcessHarness,
) -> None:
    process = harness.start('setsid sleep 60 >/dev/null 2>&1 & echo "child $!"; read line', stdin=PIPE)
    child = int(harness.output.until("\n").split()[1])
    assert not gone(child)
    process.end()
    assert process.exit_code() == -signal.SIGKILL
    assert gone_soon(child)
    assert harness.guard.told[-1][0] == "over"
    assert "renderer output" not in {thread.name for thread in threading.enumerate()}, "its reader has ended"


def test_when_the_end_returns_all_that_it_printed_was_read_by_a_slow_reader_too(tmp_path: Path) -> None:
    read, never = list[bytes](), threading.Event()

    def take_slowly(chunk: bytes) -> None:
        never.wait(0.2)
        read.append(chunk)

    process = RendererProcess(tmp_path / "attempt", cast("OrphanGuard", RecordingGuard()), take_slowly)
    render_job = fake(tmp_path, "echo the last words")
    prepare_folder(process.folder, render_job)
    binary = binary_of(render_job)
    process.start([str(binary)], render_job, binary)
    assert process.has_exited(SOON_S)
    process.end()
    assert b"".join(read) == b"the last words\n"
