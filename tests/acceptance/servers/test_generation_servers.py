"""A farm renders for servers of 2017, 2020, 2022 and 2024 that nobody of ours wrote: real processes, real Blender."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.farm.evidence import COMMAND_LINE, LAUNCHER, pixels, redis_contents, rendered_directly, zipped
from tests.support.farm.running_farm import RunningFarm, running_farm, wait_for
from tests.support.servers.generation_server import GENERATIONS, Job, ReceivedRequests, generation_server

pytestmark = [pytest.mark.blender, pytest.mark.redis, pytest.mark.timeout(300)]

FRAMES = ("0001", "0002", "0003", "0004")
PASSWORD, KEY, SCENE_PASSWORD = "acc0unt-pa55&word", "publ1c-k3y-of-the-server", "sc3ne pa55&word"
SECRETS = [b"acc0unt-pa55", b"publ1c-k3y", b"sc3ne", b"l0ad"]


def locked_scene_zip(packer: str, folder: Path, scene: Path, method: str) -> bytes:
    """The scene in a zip that another program locked: ``ZipCrypto`` or ``AES256``."""
    inside = folder / "deep er" / "shot 1.blend"
    inside.parent.mkdir()
    shutil.copy(scene, inside)
    subprocess.run(
        [packer, "a", "-tzip", f"-mem={method}", f"-p{SCENE_PASSWORD}", "scene.zip", "deep er"],
        cwd=folder, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return (folder / "scene.zip").read_bytes()


@pytest.fixture(scope="module")
def bare_blender_pictures(blender: str, demo_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What bare Blender makes of the frames, rendered once for all generations."""
    folder = tmp_path_factory.mktemp("direct")
    return {frame: rendered_directly(blender, demo_scene, int(frame), folder) for frame in FRAMES}


@pytest.mark.parametrize(
    ("year", "method"), [(2017, "ZipCrypto"), (2020, "AES256"), (2022, "ZipCrypto"), (2024, "AES256")]
)
def test_a_server_of_each_generation_gets_its_frames(
    tmp_path: Path,
    blender: str,
    demo_scene: Path,
    seven_zip: str,
    bare_blender_pictures: dict[str, Path],
    year: int,
    method: str,
) -> None:
    job = Job(
        scene=locked_scene_zip(seven_zip, tmp_path, demo_scene, method),
        scene_password=SCENE_PASSWORD,
        scene_path="deep er/shot 1.blend",
        renderer=zipped("rend.exe", LAUNCHER, 0o755),
        command_line=COMMAND_LINE,
        frames=FRAMES,
    )
    (tmp_path / "farm").mkdir()
    with (
        generation_server(year, job, PASSWORD, KEY) as (url, seen),
        running_farm(tmp_path / "farm", password=PASSWORD, environment={"SHEEPFOLD_BLENDER": blender}) as farm,
    ):
        farm.server_url = url
        farm.start_coordinator(SHEEPFOLD_DIALECT=str(year), SHEEPFOLD_HEARTBEAT_S="0.5")
        farm.start_worker("pc-01")
        wait_for("four frames are accepted", lambda: farm.status()["accepted"] == 4, 120)
        everything = what_can_be_read(farm)
        farm.stop("pc-01")
        assert farm.stop("coordinator") == 0

    assert seen.complaints == []
    assert seen.errors == []
    assert seen.logouts == 1
    for frame in FRAMES:
        picture = tmp_path / f"{frame}.png"
        picture.write_bytes(seen.pictures[frame])
        assert pixels(picture) == pixels(bare_blender_pictures[frame])
    assert_what_this_year_does(year, seen)
    everything |= {str(path): path.read_bytes() for path in (tmp_path / "farm").rglob("*") if is_ours(path)}
    assert [(where, secret) for where, data in everything.items() for secret in SECRETS if secret in data] == []


def assert_what_this_year_does(year: int, seen: ReceivedRequests) -> None:
    generation = GENERATIONS[year]
    scene = [f"chunk {number}" for number in range(generation.in_chunks)] or ["job"]
    assert sorted(seen.downloads) == sorted(["binary", *scene]), "each archive is fetched once"
    again = "key" if generation.has_public_key else "password"
    assert seen.sign_ins == ["password", again], "the session died once, and the password was sent once"
    assert sorted(seen.upload_names) == [f"31_{frame}.png" for frame in FRAMES]
    assert seen.beats, "a frame takes longer than half a second"
    if generation.has_speed_test:
        assert seen.speed_tests
        assert b"/payload" in seen.speed_tests[0]
        assert 0 < seen.speed_test_bytes < 256 * 1024 * 1024


def what_can_be_read(farm: RunningFarm) -> dict[str, bytes]:
    """Process list and Redis, while the farm is there."""
    arguments = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments += path.read_bytes()
        except OSError:
            continue
    assert b"sheepfold" in arguments
    # The test's own packer is not the farm.
    return {"process arguments": arguments, "Redis": redis_contents(farm.redis_url())}


def is_ours(path: Path) -> bool:
    """Files of the farm, but for the locked archives themselves and what was unpacked of them."""
    return path.is_file() and path.suffix != ".key" and path.stat().st_size < 64 * 1024 * 1024
