"""A real Blender whose scene attacks the PC it renders on, with each sandbox there is.

Every attack is made by Python inside a .blend (``tests/support/scenes/attacks.py``); the last one by a .blend without
any. Whatever a frame does: its worker lives, the frames of others come out as before, and it has a report that says
what became of it. One worker renders without a sandbox and shows that the attacks work where nothing stops them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from render_tasks.blender.sandbox.facts import look_at_host
from sheepfold.contract.api_messages import FailureKind
from tests.conftest import missing
from tests.support.nodes.hostile_frames import SECRET, WITHOUT_SCRIPTS, HostileFrames
from tests.support.nodes.worker_harness import wait_for
from tests.support.pictures import pixels_of

pytestmark = [pytest.mark.blender, pytest.mark.redis, pytest.mark.timeout(300)]

#: Nobody else on this machine sleeps for so long.
SLEEPS = "86311.7"


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def frames(request: pytest.FixtureRequest, blender: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A worker whose renderers run in this sandbox."""
    if request.param == "bubblewrap" and not shutil.which("bwrap"):
        missing("no bwrap: install bubblewrap")
    if request.param == "landlock" and not look_at_host().landlock:
        missing("no Landlock in this kernel")
    running = HostileFrames(tmp_path_factory.mktemp(request.param), blender, request.param)
    yield running
    running.close()


@pytest.fixture(scope="module")
def undisturbed_frame(frames: HostileFrames) -> np.ndarray:
    """The frame of somebody else, before anything happened."""
    return pixels(frames, frames.order("7"))


@pytest.fixture(autouse=True)
def _others_are_unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each attack: the same worker, and the same frame of another job."""
    if "frames" not in request.fixturenames:
        yield
        return
    frames, undisturbed_frame = request.getfixturevalue("frames"), request.getfixturevalue("undisturbed_frame")
    yield
    assert frames.node.process.poll() is None
    assert np.array_equal(pixels(frames, frames.order("7")), undisturbed_frame)


def pixels(frames: HostileFrames, lease: str) -> np.ndarray:
    path = frames.node.folder / f"{lease}.png"
    path.write_bytes(frames.rendered(lease))
    return pixels_of(path)


def test_a_frame_reads_reaches_and_writes_nothing_but_its_own(frames: HostileFrames) -> None:
    found = frames.found(frames.attack("look", **frames.aims()))
    assert SECRET not in str(found)
    for what in ("files", "ports", "sockets", "namespaces"):
        assert {path: said for path, (said, _) in found[what].items() if said == "done"} == {}, what
    owner = found["folders"].pop(str(frames.owner))
    assert owner[0] == "refused"
    names = [name for said, names in found["folders"].values() if said == "done" for name in names]
    assert not [name for name in names if name in ("other", "lock")], "bubblewrap shows the way to its own, no more"
    assert found["udp"][0] == found["netlink"] == "refused"
    assert found["environments"] == []
    assert found["signal"][0] == found["memory"][0] == found["linked"][0] == "refused"
    assert not [name for name in found["variables"] if name.startswith(("OWNERS", "SSH", "SHEEPFOLD_FARM"))]
    written = [path for path in map(Path, found["writes"]) if path.exists() and path != frames.archive]
    assert written == []
    assert found["writes"][str(frames.archive)][0] == "refused"


def test_a_frame_does_not_kill_its_worker(frames: HostileFrames) -> None:
    children = [process.pid for process in psutil.Process(frames.pid).children(recursive=True)]
    report = frames.failed(frames.attack("kill", others=children))
    assert report.kind is FailureKind.NO_OUTPUT
    assert "exit code 3" in report.reason


def test_a_child_that_hides_ends_with_its_frame(frames: HostileFrames) -> None:
    frames.rendered(frames.attack("daemonise", sleeps=SLEEPS))
    # Its Blender stays open for more frames; another scene takes its place.
    for frame in ("1", "2"):
        frames.rendered(frames.order(frame, script=f"# {frame}\n"))
    wait_for(lambda: not sleeping_processes(), 10, "the child is gone")


@pytest.mark.parametrize(
    ("attack", "kind", "says"),
    [
        ("fork bomb", FailureKind.RESOURCE_LIMIT, "processes"),
        ("memory bomb", FailureKind.OUT_OF_MEMORY, "GB"),
        ("fill disk", FailureKind.RESOURCE_LIMIT, "its files took"),
        ("hide files", FailureKind.RESOURCE_LIMIT, "a folder that nobody can look into"),
    ],
)
def test_a_bomb_ends_its_own_frame_and_another_renders_beside_it(
    frames: HostileFrames, undisturbed_frame: np.ndarray, attack: str, kind: FailureKind, says: str
) -> None:
    bomb = frames.attack(attack)
    beside = frames.order("7")
    report = frames.failed(bomb)
    assert report.kind is kind, report.reason
    assert says in report.reason
    assert np.array_equal(pixels(frames, beside), undisturbed_frame)


def test_rubbish_is_not_opened_and_goes(frames: HostileFrames) -> None:
    lease = frames.attack("rubbish", **frames.aims())
    report = frames.failed(lease)
    # Where its folders are noticed before it ends, it is ended.
    assert report.kind in (FailureKind.NO_OUTPUT, FailureKind.RENDERER_CRASHED, FailureKind.RESOURCE_LIMIT)
    assert SECRET not in report.log
    scratch = frames.node.work_dir / "scratch"
    wait_for(lambda: not (scratch / f"{lease}.1").exists(), 20, "its folder is gone")
    assert not list(scratch.glob("*rubbish*"))
    assert frames.owner.is_dir()


def test_a_scene_without_scripts_sees_no_picture_of_the_owner_and_writes_nothing_outside(frames: HostileFrames) -> None:
    assert not is_red(pixels(frames, frames.order("1", scene="plain.blend", line=WITHOUT_SCRIPTS)))
    assert not frames.outside.exists()


def test_the_attacks_work_where_nothing_stops_them(blender: str, tmp_path: Path) -> None:
    frames = HostileFrames(tmp_path, blender, "off")
    try:
        aims = frames.aims() | {"writes": [str(frames.owner / "written")]}
        found = frames.found(frames.attack("look", **aims))
        assert found["files"][str(frames.key)] == ["done", SECRET]
        assert found["writes"][str(frames.owner / "written")][0] == "done"
        assert {said for said, _ in found["ports"].values()} == {"done"}
        assert {said for said, _ in found["sockets"].values()} == {"done"}
        assert found["environments"]
        assert found["udp"][0] == found["signal"][0] == "done"
        assert is_red(pixels(frames, frames.order("1", scene="plain.blend", line=WITHOUT_SCRIPTS)))
    finally:
        frames.close()


def is_red(picture: np.ndarray) -> bool:
    red, green, blue = picture[..., 0].mean(), picture[..., 1].mean(), picture[..., 2].mean()
    return bool(red > 2 * green + 0.01 and blue < green + 0.01)


def sleeping_processes() -> list[int]:
    return [process.pid for process in psutil.process_iter(["cmdline"]) if SLEEPS in (process.info["cmdline"] or ())]
