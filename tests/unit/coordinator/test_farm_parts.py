"""The parts that know leases and nodes are wired to each other: what one learns reaches those that need it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.farm_parts import FarmParts
from coordinator.leases.lease import Lease, LeaseEvent
from coordinator.scheduling.matching import ColdStart
from coordinator.settings import CoordinatorSettings
from sheepfold.contract.api_messages import FailureKind, FailureReport
from tests.support.coordinator.builders import offer
from tests.support.coordinator.fakes import node

NO_CAMERA = FailureReport(kind=FailureKind.NO_CAMERA, reason="Cannot render, no camera")
NO_ENGINE = FailureReport(kind=FailureKind.NO_ENGINE, reason="no engine 'X'")
CRASHED = FailureReport(kind=FailureKind.RENDERER_CRASHED, reason="signal 11")
DISK_FULL = FailureReport(kind=FailureKind.DISK_FULL, reason="no space")


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[FarmParts]:
    """A farm of two PCs; the port of its Redis is nobody's."""
    settings = CoordinatorSettings(
        server_url="http://127.0.0.1:9",
        login="studio",
        password="secret",
        state_dir=tmp_path / "state",
        attempts=1,
        look_ahead=0,
        job_tags=json.dumps({"demo": ["fast"]}),
    )
    parts = FarmParts(settings, "redis://127.0.0.1:9/0")
    parts.state.open_ledger()
    parts.state.open_folders()
    parts.present.nodes = {name: node(name, tags=("fast",)) for name in ("n1", "n2")}
    parts.usable.update_index()
    yield parts
    parts.inspector.close()
    parts.state.close()


def key_of(parts: FarmParts) -> str:
    return parts.sessions.session_key(parts.present.nodes["n1"])


def rendering(parts: FarmParts, frame: str, node_id: str = "n1") -> Lease:
    lease = parts.state.ledger.grant(offer(frame), key_of(parts))
    parts.state.ledger.apply(lease.id, LeaseEvent.ORDER, node_id=node_id)
    return parts.state.ledger.apply(lease.id, LeaseEvent.START)


def test_what_the_ledger_orders_takes_a_place_in_the_index(parts: FarmParts) -> None:
    first = rendering(parts, "0001")
    waiting = parts.state.ledger.grant(offer("0003"), key_of(parts))
    need = parts.requirements.of(waiting)
    assert parts.index.choose(need, key_of(parts), ColdStart.ANYWHERE) == "n2"
    rendering(parts, "0002", "n2")
    assert parts.index.choose(need, key_of(parts), ColdStart.ANYWHERE) is None
    parts.state.ledger.apply(first.id, LeaseEvent.CANCEL)
    assert parts.index.choose(need, key_of(parts), ColdStart.ANYWHERE) == "n1"


def test_a_claim_of_a_pcs_own_trouble_pauses_it_and_takes_it_out_of_the_index(parts: FarmParts) -> None:
    lease = rendering(parts, "0001")
    parts.claims.fail(lease.id, 1, "n1", DISK_FULL)
    assert parts.pauses.is_paused("n1")
    assert parts.usable.current().keys() == {"n2"}
    assert parts.index.nodes().keys() == {"n2"}


def test_a_frame_fails_after_as_many_attempts_as_are_set_and_its_report_waits(parts: FarmParts) -> None:
    lease = rendering(parts, "0001")
    parts.claims.fail(lease.id, 1, "n1", CRASHED)
    assert parts.state.ledger.get(lease.id).reason == "renderer crashed: signal 11"
    assert parts.state.reports.waiting(key_of(parts)) == [lease.id]


def test_a_scene_that_fails_on_every_pc_is_blocked_until_it_gets_another_chance(parts: FarmParts) -> None:
    for frame, node_id in (("0001", "n1"), ("0002", "n2")):
        parts.claims.fail(rendering(parts, frame, node_id).id, 1, node_id, NO_CAMERA)
    assert parts.blocks.is_blocked("77", "0003")
    assert parts.jobs.unblock("77", None)
    parts.claims.fail(rendering(parts, "0003").id, 1, "n1", NO_CAMERA)
    assert not parts.blocks.is_blocked("77", "0004"), "one failure is no proof, once it begins anew"
    parts.claims.fail(rendering(parts, "0004", "n2").id, 1, "n2", NO_CAMERA)
    assert parts.blocks.is_blocked("77", "0005")


def test_pcs_whose_blender_failed_a_job_are_the_last_to_get_its_frames(parts: FarmParts) -> None:
    parts.present.nodes["n1"] = node("n1", tags=("fast",), blender="3.4.1")
    parts.claims.fail(rendering(parts, "0001").id, 1, "n1", NO_ENGINE)
    assert parts.requirements.of(parts.state.ledger.grant(offer("0002"), key_of(parts))).tried == ("n1",)


def test_a_jobs_tags_are_what_its_frames_ask_of_a_pc(parts: FarmParts) -> None:
    demo = parts.state.ledger.grant(offer("0001", name="demo", path="demo.blend"), key_of(parts))
    other = parts.state.ledger.grant(offer("0001", job_id="9", name="other"), key_of(parts))
    assert parts.requirements.of(demo).tags == {"fast"}
    assert parts.requirements.of(other).tags == set()
