"""One renderer process, with scripts that misbehave in Blender's place."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.runner import PREFIX, render
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from sheepfold.contract.api_messages import FailureKind
from tests.support.blender.render_jobs import fake, gone, gone_soon, null_job, processes_naming, run
from tests.support.nodes.null_renderer import COMMAND_LINE
from tests.support.nodes.worker_harness import wait_for


def test_a_cancel_takes_daemonised_children_along(tmp_path: Path, guard: OrphanGuard) -> None:
    token = CancelToken()
    pid_file = tmp_path / "scratch" / "daemon.pid"
    job = null_job(tmp_path, "900")

    def attempt() -> None:
        with pytest.raises(AttemptDropped):
            render(job, token, guard, lambda _: None)

    thread = threading.Thread(target=attempt)
    thread.start()
    daemon = int(wait_for(lambda: pid_file.exists() and pid_file.read_text(), 10))
    began = time.monotonic()
    token.cancel("cancelled")
    thread.join(10)
    assert time.monotonic() - began < 2
    assert gone(daemon)


def test_a_time_limit_counts_even_if_a_picture_is_there(tmp_path: Path, guard: OrphanGuard) -> None:
    with pytest.raises(AttemptFailed) as failed:
        run(fake(tmp_path, 'echo picture > "$8"0007.png; sleep 30', time_limit_s=0.3), guard)
    assert failed.value.report.kind is FailureKind.TIME_LIMIT
    assert failed.value.report.render_s < 3


#: Holds 300 MB in a child of its own session, and waits.
_GREEDY_CHILD = """setsid {python} -c "
import os, time, pathlib
pathlib.Path('{pid_file}').write_text(str(os.getpid()))
held = bytearray(b'x') * 300_000_000
time.sleep(60)" &
wait
"""


def test_a_render_that_holds_more_than_it_may_is_ended_with_its_whole_tree(tmp_path: Path, guard: OrphanGuard) -> None:
    pid_file = tmp_path / "child"
    body = _GREEDY_CHILD.format(python=sys.executable, pid_file=pid_file)
    with pytest.raises(AttemptFailed) as failed:
        run(fake(tmp_path, body, memory_limit_kb=200 * 1024), guard)
    report = failed.value.report
    assert report.kind is FailureKind.OUT_OF_MEMORY
    found = re.fullmatch(r"stopped: it held (0\.\d+) GB, and a render on this PC may hold 0\.195 GB", report.reason)
    assert found, report.reason
    assert 0.195 < float(found[1]) < 0.4
    assert report.memory_kb > 200 * 1024
    assert report.render_s < 10
    # Killed; the system takes a moment to get its memory back, and until then calls it running.
    assert gone_soon(int(pid_file.read_text()))


def test_a_render_within_its_limit_is_left_alone(tmp_path: Path, guard: OrphanGuard) -> None:
    rendered, _ = run(null_job(tmp_path, "905", memory_limit_kb=200 * 1024), guard)
    assert rendered.picture.is_file()
    assert rendered.picture_at - rendered.began_at == pytest.approx(rendered.render_s)


@pytest.mark.skipif(sys.platform != "linux", reason="shared pages are counted on Linux")
def test_pages_that_a_fork_shares_with_its_parent_count_once(tmp_path: Path, guard: OrphanGuard) -> None:
    body = f"""exec {sys.executable} -c "
import os, sys, time
held = bytearray(b'x') * 150_000_000
if os.fork() == 0:
    time.sleep(60)
time.sleep(1.5)
open(sys.argv[8] + '0007.png', 'w').write('picture')
os._exit(0)" "$@"
"""
    rendered, progress = run(fake(tmp_path, body, memory_limit_kb=220 * 1024), guard)
    assert rendered.memory_kb > 250 * 1024  # the peak that is told counts both
    assert progress[-1].memory_kb > 250 * 1024, "and it is told while the render is under way"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("kill -SEGV $$", FailureKind.RENDERER_CRASHED),
        ("kill -ABRT $$", FailureKind.RENDERER_CRASHED),
        ("(kill -SEGV $(exec sh -c 'echo $PPID')); exit $?", FailureKind.RENDERER_CRASHED),
        ("kill -KILL $$", FailureKind.RENDERER_CRASHED),
        ('echo "# crash" > "$TMPDIR/scene.crash.txt"; exit 1', FailureKind.RENDERER_CRASHED),
        ("exit 127", FailureKind.MISSING_LIBRARIES),
        (
            "echo 'error while loading shared libraries: libX11.so.6: cannot open'; exit 1",
            FailureKind.MISSING_LIBRARIES,
        ),
        (
            "echo 'terminate called after throwing an instance of std::bad_alloc'; kill -ABRT $$",
            FailureKind.OUT_OF_MEMORY,
        ),
        ("echo 'Error: No space left on device'; exit 1", FailureKind.DISK_FULL),
        ("exit 0", FailureKind.NO_OUTPUT),
        (': > "$8"0007.png', FailureKind.NO_OUTPUT),
        ('echo other > "$8"0071.png; echo other > "$8"0007.png.part; echo other > "$8"7.png', FailureKind.NO_OUTPUT),
    ],
)
def test_a_renderer_without_a_picture_is_told_apart(
    tmp_path: Path, guard: OrphanGuard, body: str, kind: FailureKind
) -> None:
    with pytest.raises(AttemptFailed) as failed:
        run(fake(tmp_path, body), guard)
    assert failed.value.report.kind is kind


def test_a_picture_counts_whatever_the_exit_code(tmp_path: Path, guard: OrphanGuard) -> None:
    rendered, _ = run(fake(tmp_path, 'echo picture > "$8"0007.png; kill -SEGV $$'), guard)
    assert rendered.picture.name == f"{PREFIX}0007.png"


def test_endless_output_fills_neither_memory_nor_report(tmp_path: Path, guard: OrphanGuard) -> None:
    body = "head -c 30000000 /dev/zero | tr '\\0' x; echo; seq 1 200000; echo the end"
    with pytest.raises(AttemptFailed) as failed:
        run(fake(tmp_path, body), guard)
    log = failed.value.report.log
    assert len(log) < 400_000
    assert log.endswith("the end\n")
    assert "bytes not kept" in log


def test_a_stray_child_that_keeps_the_output_open_does_not_hold_the_slot(tmp_path: Path, guard: OrphanGuard) -> None:
    began = time.monotonic()
    rendered, _ = run(fake(tmp_path, 'setsid sleep 60 & echo picture > "$8"0007.png; echo $! > "$TMPDIR/pid"'), guard)
    assert time.monotonic() - began < 5
    assert gone(int((tmp_path / "attempt" / "tmp" / "pid").read_text()))
    assert rendered.picture.read_text() == "picture\n"


def test_a_renderer_that_cannot_be_started_is_a_bad_archive(tmp_path: Path, guard: OrphanGuard) -> None:
    job = fake(tmp_path, "")
    (job.renderer / "rend.exe").write_bytes(b"\x7fELF rubbish")
    with pytest.raises(AttemptFailed) as failed:
        run(job, guard)
    assert failed.value.report.kind in (FailureKind.BAD_ARCHIVE, FailureKind.NO_OUTPUT, FailureKind.MISSING_LIBRARIES)
    (job.renderer / "rend.exe").unlink()
    with pytest.raises(AttemptFailed) as failed:
        run(job, guard)
    assert failed.value.report.kind is FailureKind.BAD_ARCHIVE


def test_the_renderer_knows_none_of_our_secrets(
    tmp_path: Path, guard: OrphanGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "SHEEPFOLD_FARM_TOKEN",
        "SHEEPFOLD_PASSWORD",
        "SHEEPFOLD_REDIS_URL",
        "FLOWER_BASIC_AUTH",
        "AWS_SECRET_KEY",
    ):
        monkeypatch.setenv(name, "hidden-value")
    monkeypatch.setenv("SHEEPFOLD_BLENDER", "/opt/blender")
    monkeypatch.setenv("BLENDER_SYSTEM_SCRIPTS", "/elsewhere")
    with pytest.raises(AttemptFailed) as failed:
        run(fake(tmp_path, "env"), guard)
    log = failed.value.report.log
    assert "hidden-value" not in log
    assert "SHEEPFOLD_BLENDER=/opt/blender" in log
    assert "BLENDER_SYSTEM" not in log
    assert f"LD_LIBRARY_PATH={tmp_path / 'renderer' / 'lib'}" in log


_LONELY_WORKER = """
import sys
from pathlib import Path
from render_tasks.blender.runner import render
from render_tasks.cancellation import CancelToken
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.render_job import RenderJob
from tests.support.blender.render_jobs import NO_SANDBOX
guard = OrphanGuard()
guard.start()
folder = Path(sys.argv[1])
job = RenderJob(renderer=folder / "renderer", renderer_md5="1", scene_key="2", revision="1", memory_limit_kb=None,
          scene=folder / "scene.blend", command_line=sys.argv[2], script="", frame="900",
          update_method="", gpu=False, cores=None, time_limit_s=None, scratch=folder / "scratch" / "attempt",
          scene_folder=folder, sandbox=NO_SANDBOX)
render(job, CancelToken(), guard, lambda _: None)
"""


def test_the_guard_kills_the_tree_of_a_killed_worker(tmp_path: Path) -> None:
    null_job(tmp_path, "900")
    worker = subprocess.Popen([sys.executable, "-c", _LONELY_WORKER, str(tmp_path), COMMAND_LINE])
    pid_file = tmp_path / "scratch" / "daemon.pid"
    daemon = int(wait_for(lambda: pid_file.exists() and pid_file.read_text(), 10))
    renderers = [pid for pid in processes_naming(tmp_path) if pid != worker.pid]
    worker.send_signal(signal.SIGKILL)
    began = time.monotonic()
    worker.wait()
    wait_for(lambda: all(map(gone, (daemon, *renderers))), 2)
    print(f"tree gone {time.monotonic() - began:.3f} s after kill -9")
    assert renderers
    shutil.rmtree(tmp_path / "scratch")
