"""A real worker, and renderers that leave links, pipes and thousands of folders: no frame holds up the next one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from render_tasks.untrusted.removal import remove
from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.orders import RenderOrder
from tests.support.nodes.null_renderer import packed
from tests.support.nodes.worker_harness import TOKEN, WorkerHarness, wait_for

_OUT = 'cd "$TMPDIR/.."\n'
#: 3,000 folders in each other, some of mode 0.
_DEEP = 'for n in $(seq 3000); do mkdir d; cd d || exit; done; mkdir shut; chmod 000 shut; cd "$TMPDIR/.."\n'


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    # pytest itself deletes by recursion.
    remove(tmp_path)


def order_of_script(node: WorkerHarness, frame: str, body: str) -> RenderOrder:
    """An order for a renderer that is a few lines of shell, in its scratch folder."""
    ref, content = packed({"rend.exe": f"#!/bin/sh\n{_OUT}{body}\n".encode()})
    node.coordinator.archives[ref.md5] = content
    return node.order(frame, renderer_archive=ref)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "Pictures"
    folder.mkdir()
    for name in ("frame_0001.png", "secret.txt"):
        (folder / name).write_text("the owner's")
    return folder


def test_what_a_frame_leaves_tells_nothing_takes_nothing_and_holds_up_nobody(
    own_node: WorkerHarness, pictures: Path
) -> None:
    own_node.start().until_ready()
    attacks = {
        "a crash report that is the worker's environment": "ln -s /proc/$PPID/environ tmp/x.crash.txt; exit 1",
        "a crash report that is a pipe": "mkfifo tmp/x.crash.txt; exit 1",
        "an output folder that is the owner's": f"rmdir out; ln -s {pictures} out",
        "a picture that is a pipe": "mkfifo out/frame_0001.png",
        "a picture that is a second name": f"ln {pictures}/secret.txt out/frame_0001.png",
        "a picture of another name": "echo picture > out/frame_1.png; echo picture > out/newest.png",
        "deep folders and folders of mode 0": f"{_DEEP}mkdir tmp/a.crash.txt; chmod 000 out",
    }
    for what, body in attacks.items():
        order = order_of_script(own_node, "0001", body)
        wait_for(lambda lease=order.lease_id: lease in own_node.coordinator.failures, 30, what)
        report = own_node.coordinator.failures[order.lease_id]
        # Folders that cannot be looked into end a render, where it lasts until the next look at the disk.
        closed = {FailureKind.RESOURCE_LIMIT} if "mode 0" in what else set[FailureKind]()
        assert report.kind in {FailureKind.NO_OUTPUT, FailureKind.RENDERER_CRASHED} | closed, what
        assert TOKEN not in report.log + report.reason, what
        good = own_node.order("7")
        wait_for(lambda lease=good.lease_id: lease in own_node.coordinator.frames, 10, f"after {what}")
    assert {path.name: path.read_text() for path in pictures.iterdir()} == {
        "frame_0001.png": "the owner's",
        "secret.txt": "the owner's",
    }
    wait_for(lambda: not any((own_node.work_dir / "scratch").iterdir()), 20, "the scratch folder is empty")
    assert TOKEN not in own_node.log.read_text()


def test_names_and_what_blender_says_begin_no_line_in_the_log(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    forged = "2026-11-27 04:00:00,000 CRITICAL coordinator.app: the account is banned"
    ref, content = packed({"rend.exe": b"#!/bin/sh\nprintf 'Error: a\\033[2J\\342\\200\\250%s\\n' x; exit 1\n"})
    own_node.coordinator.archives[ref.md5] = content
    order = own_node.order("1", job_name=f"demo\n{forged}\x1b[2J", renderer_archive=ref)
    wait_for(lambda: order.lease_id in own_node.coordinator.failures, 30)
    assert "\x1b[2J" in own_node.coordinator.failures[order.lease_id].reason
    log = own_node.log.read_text()
    assert forged in log
    assert not [line for line in log.splitlines() if line.startswith(forged)]
    assert "\x1b" not in log
    assert "\u2028" not in log


def test_a_worker_starts_again_whatever_a_frame_left(own_node: WorkerHarness, pictures: Path) -> None:
    own_node.start().until_ready()
    body = (
        f"cd ../..\n{_DEEP.replace('$TMPDIR/..', '$PWD')}"
        "mkdir -p outbox/x.1; mkfifo outbox/x.1/delivery.json\n"
        f"ln -s {pictures} outbox/y.1; ln -s {pictures} archives/.fetch-1\n"
        "mkdir -p scratch/deep; cd scratch/deep; " + _DEEP.replace('cd "$TMPDIR/.."', "exit 1")
    )
    order = order_of_script(own_node, "0001", body)
    wait_for(lambda: order.lease_id in own_node.coordinator.failures, 30)
    own_node.stop()
    own_node.log.write_bytes(b"")
    own_node.start().until_ready()
    good = own_node.order("7")
    wait_for(lambda: good.lease_id in own_node.coordinator.frames, 10)
    assert len(list(pictures.iterdir())) == 2
    wait_for(lambda: not list((own_node.work_dir / "outbox").glob("*.1")), 10)
