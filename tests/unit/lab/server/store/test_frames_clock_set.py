"""The machine's clock is set while the server is down."""

from __future__ import annotations

from pathlib import Path

import pytest

from sheepfold.protocol.messages import ComputeMethod
from sheepfold.protocol.status import BeatStatus, JobStatus
from tests.support.lab.store_harness import LEASE_S, StoreHarness

CPU = ComputeMethod.CPU_ONLY
HOUR_S = 3600.0


@pytest.mark.parametrize("set_by", [HOUR_S, 0.0, -HOUR_S])
def test_leases_survive_a_server_that_comes_back_with_another_time(tmp_path: Path, set_by: float) -> None:
    before = StoreHarness(tmp_path)
    session, project = before.session(), before.project((1,))
    before.frames.grant(session, CPU)
    before.store.close()

    after = StoreHarness(tmp_path, now=before.now + set_by)
    assert after.frames.grant(session, CPU) is JobStatus.NO_JOB, "it is still being rendered"
    assert after.frames.beat(session, str(project.id), "0001") is BeatStatus.OK
    after.now += LEASE_S
    assert after.frames.grant(session, CPU) is JobStatus.NO_JOB
    after.now += 1
    assert after.frames.grant(session, CPU) is not JobStatus.NO_JOB, "nobody beats for it any more"
    assert after.frames.views.totals()["expiries"] == 1
