"""A PC that is turned out of a real farm while it renders: others get its frame, and it can do nothing any more."""

from __future__ import annotations

import pytest

from sheepfold.contract.orders import queue_of
from sheepfold.contract.presence import presence_key
from tests.support.farm.faulty_farm import FaultyFarm
from tests.support.farm.running_farm import wait_for
from tests.support.nodes.redis_users import as_text

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]


def test_a_revoked_pcs_frame_goes_elsewhere_and_it_does_not_come_back(own_farm: FaultyFarm) -> None:
    own_farm.begin("pc-01")
    project = own_farm.submit("1", acts={"1:*": "gate"})
    own_farm.wait_until_started(project, 1)
    node_id = own_farm.node("pc-01")["id"]
    own_farm.start_worker("pc-02")
    own_farm.wait_until_here("pc-02")

    told = own_farm.run("node", "revoke", "pc-01")
    assert (told.returncode, told.stdout) == (0, f"pc-01 (node {node_id}) is revoked\n"), told.stderr

    own_farm.wait_until_started(project, 1, times=2)
    project.open()
    own_farm.wait_until_accepted(project, 1)
    maker = own_farm.maker(project, 1)
    assert maker is not None
    assert (maker.pc, maker.attempt) == ("pc-02", 2)
    wait_for("its worker hears why", lambda: "was revoked" in own_farm.log_text("pc-01"), 60)
    wait_for("it is gone", lambda: [node["name"] for node in own_farm.status()["nodes"]] == ["pc-02"], 30)
    with own_farm.redis() as client:
        assert f"sheepfold-node-{node_id}" not in map(as_text, client.acl_users())
        assert not client.exists(presence_key(node_id), queue_of(node_id))

    own_farm.stop("pc-01")
    own_farm.start_worker("pc-01")
    assert own_farm.processes["pc-01"].wait(30) == 3
    again = own_farm.run("node", "revoke", "pc-01")
    assert again.returncode == 1
    assert "called 'pc-01'" in again.stderr
