"""A PC on a network of its own joins by an invitation and renders; plain HTTP and the farm token open nothing to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.support.farm.faulty_farm import FaultyFarm
from tests.support.farm.running_farm import SHEEPFOLD, wait_for
from tests.support.nodes.network_namespace import Cable, pc_on_a_cable, why_no_namespaces

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]


@pytest.fixture
def cable() -> Iterator[Cable]:
    if why := why_no_namespaces():
        missing(why)
    with pc_on_a_cable() as cable:
        yield cable


@pytest.fixture
def farm(tmp_path: Path, cable: Cable) -> Iterator[FaultyFarm]:
    farm = FaultyFarm(tmp_path)
    port = farm.coordinator_url.rpartition(":")[2]
    farm.extra |= {"SHEEPFOLD_HOST": "0.0.0.0", "SHEEPFOLD_PUBLIC_URL": f"https://{cable.here}:{port}"}
    try:
        farm.begin()
        yield farm
    finally:
        farm.end()


def pc_environment(farm: FaultyFarm, **more: str) -> dict[str, str]:
    """What a PC has that knows nothing of the farm."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("SHEEPFOLD_")}
    own = {
        "SHEEPFOLD_NODE_NAME": "pc",
        "SHEEPFOLD_WORK_DIR": str(farm.folder / "pc"),
        "SHEEPFOLD_SANDBOX": "off",
        "SHEEPFOLD_ALLOW_ROOT": "1",
    }
    return known | own | more


def invited(farm: FaultyFarm) -> str:
    done = farm.run("node", "invite")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    return done.stdout.strip()


def start_pc(farm: FaultyFarm, cable: Cable, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    with farm.log_of("pc").open("ab") as log:
        process = subprocess.Popen(
            cable.command(SHEEPFOLD, "worker", *arguments),
            env=pc_environment(farm, **environment),
            cwd=farm.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    farm.processes["pc"] = process
    return process


def test_a_pc_joins_by_its_line_and_renders_over_tls(farm: FaultyFarm, cable: Cable) -> None:
    start_pc(farm, cable, "--join", invited(farm))
    project = farm.submit("1-2")
    wait_for("both frames are accepted", lambda: farm.status()["leases"]["accepted"] == 2, 60)
    assert {farm.maker(project, frame).pc for frame in (1, 2)} == {"pc"}
    assert farm.farm_token not in (farm.folder / "pc.log").read_text()
    # It comes back by its certificate alone.
    assert farm.stop("pc") == 0
    start_pc(farm, cable)
    farm.submit("3")
    wait_for("it renders again", lambda: farm.status()["leases"]["accepted"] == 3, 60)


def test_a_line_is_good_for_one_pc(farm: FaultyFarm, cable: Cable) -> None:
    line = invited(farm)
    start_pc(farm, cable, "--join", line)
    farm.wait_until_here("pc")
    other = str(farm.folder / "other")
    done = subprocess.run(
        cable.command(SHEEPFOLD, "worker", "--join", line),
        env=pc_environment(farm, SHEEPFOLD_WORK_DIR=other),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    assert "used already" in done.stderr
    assert not (Path(other) / "membership" / "certificate.pem").exists()


def test_plain_http_and_the_farm_token_open_nothing_from_another_machine(farm: FaultyFarm, cable: Cable) -> None:
    port = farm.coordinator_url.rpartition(":")[2]
    curl = shutil.which("curl")
    if curl is None:
        missing("curl not found")
    plain = subprocess.run(
        cable.command(curl, "-s", "-w", "%{http_code}", f"http://{cable.here}:{port}/healthz"),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert plain.stdout.endswith("403")
    assert "use https" in plain.stdout
    address = {"SHEEPFOLD_COORDINATOR_URL": f"http://{cable.here}:{port}", "SHEEPFOLD_FARM_TOKEN": farm.farm_token}
    refused = subprocess.run(
        cable.command(SHEEPFOLD, "worker"),
        env=pc_environment(farm, **address),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert "SHEEPFOLD_ALLOW_PLAIN" in refused.stderr
    joined = subprocess.run(
        cable.command(
            curl, "-s", "-k", "-w", "%{http_code}", "-X", "POST", "-H", f"Authorization: Bearer {farm.farm_token}",
            f"https://{cable.here}:{port}/api/join",
        ),
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert joined.stdout.endswith("403")
    assert "sheepfold node invite" in joined.stdout


def test_everybody_sees_the_chain_up_to_the_farms_authority(farm: FaultyFarm, cable: Cable) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        missing("openssl not found")
    authority = farm.folder / "coordinator" / "tls" / "ca.pem"
    port = farm.coordinator_url.rpartition(":")[2]
    shown = subprocess.run(
        cable.command(
            openssl, "s_client", "-connect", f"{cable.here}:{port}", "-CAfile", str(authority),
            "-verify_return_error", "-verify_ip", cable.here,
        ),
        input="", capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert "Verify return code: 0 (ok)" in shown.stdout, shown.stdout
    assert "CN = farm authority" in shown.stdout
    assert "CN = coordinator.sheepfold.internal" in shown.stdout


def test_the_log_tells_the_fingerprint_that_the_line_has(farm: FaultyFarm) -> None:
    fingerprint = invited(farm).split("/")[3]
    assert fingerprint in farm.log_of("coordinator").read_text()


def test_an_invitation_that_names_another_farm_is_not_followed(farm: FaultyFarm, cable: Cable) -> None:
    line = invited(farm)
    began = time.monotonic()
    done = subprocess.run(
        cable.command(SHEEPFOLD, "worker", "--join", line.replace(line.split("/")[3], "0" * 64)),
        env=pc_environment(farm),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    assert "told no secret" in done.stderr
    assert time.monotonic() - began < 30
