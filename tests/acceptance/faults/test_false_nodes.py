"""Somebody with the farm token who says that he is another PC, against a real farm."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

import pytest

from sheepfold.contract.api_messages import CONTRACT_VERSION, NODE_SECRET_HEADER
from tests.support.farm.faulty_farm import FaultyFarm
from tests.support.farm.running_farm import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

SECRET = "6" * 64
HARDWARE = {
    "os": "linux", "bits": "64bit", "cpu_family": "6", "cpu_model": "1", "cpu_model_name": "x", "cpu_cores": 4,
    "ram": 2**34,
}  # fmt: skip


def call_api(own_farm: FaultyFarm, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    """With the farm token, and a secret that is nobody else's."""
    headers = {"Authorization": f"Bearer {own_farm.farm_token}", NODE_SECRET_HEADER: SECRET}
    request = urllib.request.Request(own_farm.coordinator_url + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_a_join_in_another_pcs_name_and_claims_about_its_frame_change_nothing(own_farm: FaultyFarm) -> None:
    own_farm.begin("pc-01")
    project = own_farm.submit("1", acts={"1:*": "gate"})
    wait_for("the frame renders", lambda: project.starts(1), 30)
    node = wait_for("it is shown", lambda: [node for node in own_farm.status()["nodes"] if node["busy"]], 10)[0]
    slot = node["busy"][0]
    join = {
        "contract_version": CONTRACT_VERSION, "node_id": node["id"], "secret": SECRET, "wanted_name": "pc-01",
        "hardware": HARDWARE, "slots": 1, "compute": "cpu", "fresh": True, "installation": "",
    }  # fmt: skip
    status, answer = call_api(own_farm, "POST", "/api/join", json.dumps(join).encode())
    assert status == 200
    assert answer["node_id"] != node["id"]

    query = {"attempt": slot["attempt"], "claim": "w", "name": "a.png", "md5": "0" * 32}
    figures = {"render_s": 1, "memory_kb": 1, "cores": 1}
    failure = json.dumps({"kind": "renderer crashed", "reason": "false"}).encode()
    for named in (node["id"], answer["node_id"]):
        where = f"/api/leases/{slot['lease_id']}/{{}}?{urlencode({'node': named} | query | figures)}"
        assert call_api(own_farm, "POST", where.format("start"))[0] == 403
        assert call_api(own_farm, "PUT", where.format("frame"), b"false picture")[0] == 403
        assert call_api(own_farm, "POST", where.format("failure"), failure)[0] == 403

    project.open()
    wait_for("the frame is accepted", lambda: own_farm.status()["leases"]["accepted"] == 1, 30)
    maker = own_farm.maker(project, 1)
    assert maker is not None
    assert (maker.pc, maker.attempt) == ("pc-01", 1), "its first attempt was never taken back"
