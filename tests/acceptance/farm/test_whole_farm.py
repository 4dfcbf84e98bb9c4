"""The whole chain with real processes, a real Redis and a real Blender."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.support.farm.evidence import COMMAND_LINE, LAUNCHER, pixels, redis_contents, rendered_directly, zipped
from tests.support.farm.running_farm import running_farm, wait_for
from tests.support.servers.foreign_server import Job, foreign_server

pytestmark = [pytest.mark.blender, pytest.mark.redis, pytest.mark.timeout(300)]


def test_two_workers_render_twelve_frames_with_the_pixels_of_blender_itself(
    tmp_path: Path, blender: str, demo_scene: Path
) -> None:
    """Given a lab server with the demo project, when two workers render it, every picture is Blender's own."""
    with running_farm(tmp_path, environment={"SHEEPFOLD_BLENDER": blender}) as farm:
        farm.start_server()
        submitted = farm.run("submit", str(demo_scene), "--frames", "1-12", "--name", "demo")
        assert submitted.returncode == 0, submitted.stderr
        farm.start_coordinator()
        farm.start_worker("pc-01")
        farm.start_worker("pc-02")
        wait_for("twelve frames are accepted", lambda: farm.status()["accepted"] == 12, 150)

        worked = {name for name in ("pc-01", "pc-02") if "delivered" in farm.log_of(name).read_text()}
        assert worked == {"pc-01", "pc-02"}, "both PCs had work"
        pictures = sorted((tmp_path / "server").glob("projects/*/frames/*.png"))
        assert [path.stem for path in pictures] == [f"{number:04d}" for number in range(1, 13)]
        for picture in pictures:
            direct = rendered_directly(blender, demo_scene, int(picture.stem), tmp_path)
            assert pixels(picture) == pixels(direct), f"{picture.name} differs from Blender's own"

        for name in ("pc-01", "pc-02", "coordinator", "server"):
            assert farm.stop(name) == 0, farm.log_of(name).read_text()[-2000:]


def test_a_server_of_another_style_gets_its_frames(tmp_path: Path, blender: str, demo_scene: Path) -> None:
    """Given a server with other paths, another cookie, no extras and no count of frames, it still gets every frame."""
    scene, renderer = zipped("deep/er/shot 1.blend", demo_scene.read_bytes()), zipped("rend.exe", LAUNCHER, 0o755)
    job = Job(
        scene=scene,
        scene_md5=hashlib.md5(scene).hexdigest(),
        renderer=renderer,
        renderer_md5=hashlib.md5(renderer).hexdigest(),
        scene_path="deep/er/shot 1.blend",
        command_line=COMMAND_LINE,
        frames=["0003", "7"],
    )
    with (
        foreign_server(job, "s3cret&pass word") as (url, seen),
        running_farm(tmp_path, password="s3cret&pass word", environment={"SHEEPFOLD_BLENDER": blender}) as farm,
    ):
        farm.server_url = url
        farm.start_coordinator(SHEEPFOLD_HEARTBEAT_S="0.5")
        farm.start_worker("pc-01")
        wait_for("both frames arrive", lambda: len(seen.pictures) == 2, 90)
        wait_for("both frames are accepted", lambda: farm.status()["accepted"] == 2, 10)
        farm.stop("pc-01")
        assert farm.stop("coordinator") == 0

        for frame, data in seen.pictures.items():
            picture = tmp_path / f"{frame}.png"
            picture.write_bytes(data)
            assert pixels(picture) == pixels(rendered_directly(blender, demo_scene, int(frame), tmp_path))
        assert seen.fields["0003"]["revision"] == "7"
        assert "extras" not in seen.fields["0003"]
        assert {beat["frame"] for beat in seen.beats} <= {"0003", "7"}
        assert seen.beats, "a frame takes longer than half a second"
        assert sorted(seen.downloads) == ["binary", "job"], "each archive is fetched once"
        assert seen.logouts == 1
        assert not seen.without_cookie
        assert not seen.errors


def test_the_password_is_nowhere(tmp_path: Path, blender: str, demo_scene: Path) -> None:
    """When a farm has worked, its password is in no log, argument, Redis key or file, in no spelling."""
    password = "pa55w0rd-&<tümult>"
    spellings = [password.encode(), b"pa55w0rd-%26", b"pa55w0rd-&amp;", b"pa55w0rd-\\u0026", b"pa55w0rd"]
    with running_farm(tmp_path, password=password, environment={"SHEEPFOLD_BLENDER": blender}) as farm:
        farm.start_server()
        assert farm.run("submit", str(demo_scene), "--frames", "1-2", "--name", "demo").returncode == 0
        farm.start_coordinator()
        farm.start_worker("pc-01")
        wait_for("two frames are accepted", lambda: farm.status()["accepted"] == 2, 90)
        arguments = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _readable(path))
        stored = redis_contents(farm.redis_url())
        # The server goes away and the password is sent to nobody: exceptions and retries must not tell it either.
        farm.stop("server")
        wait_for("the log tells of the silence", lambda: "127.0.0.1" in farm.log_of("coordinator").read_text(), 20)
        wrong = farm.run("coordinator", SHEEPFOLD_STATE_DIR=str(tmp_path / "other"), SHEEPFOLD_PORT="x")
        assert wrong.returncode == 2
        farm.stop("pc-01")
        farm.stop("coordinator")

    assert b"sheepfold" in arguments, "the arguments were really read"
    assert b"presence" in stored, "Redis was really read"
    files = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.endswith("ledger.sqlite") for path in files)
    haystacks = files | {"process arguments": arguments, "Redis": stored, "settings error": wrong.stderr.encode()}
    found = [(where, word) for where, data in haystacks.items() for word in spellings if word in data]
    assert not found


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK) and path.exists()
