from __future__ import annotations

import logging
from dataclasses import replace
from typing import cast

import pytest

from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger
from coordinator.nodes.admission import NodeAdmission
from coordinator.nodes.credentials import NodeCredentials
from coordinator.nodes.errors import BrokerUnreachable, NodeRevoked, TooManyJoins
from coordinator.nodes.join_rate import BURST
from coordinator.nodes.order_signing import OrderSigner
from coordinator.nodes.registry import NodeRegistry
from sheepfold.contract.api_messages import CONTRACT_VERSION, JoinRequest
from sheepfold.contract.codec import to_json
from sheepfold.contract.presence import NODE_SILENT_AFTER_S, Compute, Presence
from tests.support.clocks import ManualClock
from tests.support.coordinator.fakes import HARDWARE, NODE_SECRET, node


class FakeLogins:
    """Knows one password."""

    def login_of(self, node_id: str, name: str, reached_by: str) -> str:
        return f"redis://{node_id}-{name}:s3cret@{reached_by}:6390/0"


class FakeRegistry:
    """Gives every PC a number, while Redis is there."""

    def __init__(self) -> None:
        self.down = False
        self.here: dict[str, Presence] = {}

    def present(self) -> dict[str, Presence]:
        if self.down:
            raise BrokerUnreachable("ConnectionError")
        return self.here

    def unique_name(self, _node_id: str, wanted: str) -> str:
        if self.down:
            raise BrokerUnreachable("ConnectionError")
        return f"{wanted}-02"


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def joins() -> list[JoinRequest]:
    return []


@pytest.fixture
def signer(ledger: Ledger) -> OrderSigner:
    return OrderSigner(KeyValueStore(ledger.database), lambda: "f1", lambda: 0.0)


@pytest.fixture
def make_admission(
    ledger: Ledger, registry: FakeRegistry, signer: OrderSigner, joins: list[JoinRequest], clock: ManualClock
):
    def make(public_url: str | None = None) -> NodeAdmission:
        return NodeAdmission(
            NodeCredentials(KeyValueStore(ledger.database)),
            cast("NodeRegistry", registry),
            signer,
            FakeLogins(),
            public_url,
            joins.append,
            clock=clock,
        )

    return make


def wish(node_id: str = "n1", secret: str = NODE_SECRET) -> JoinRequest:
    return JoinRequest(
        contract_version=CONTRACT_VERSION,
        node_id=node_id,
        secret=secret,
        wanted_name="pc",
        hardware=HARDWARE,
        slots=2,
        compute=Compute.CPU,
    )


def test_a_worker_that_joins_gets_all_it_needs(make_admission, signer: OrderSigner, joins: list[JoinRequest]) -> None:
    admission = make_admission()
    answer = admission.join(wish(), "farm.lan", "10.0.0.9")
    assert (answer.name, answer.queue) == ("pc-02", "farm.n1")
    assert answer.redis_url == "redis://n1-pc-02:s3cret@farm.lan:6390/0"
    assert joins == [wish()]
    assert (answer.farm_id, answer.order_key) == ("f1", signer.order_key)


def test_a_worker_does_not_get_in_while_redis_is_away(
    make_admission, registry: FakeRegistry, joins: list[JoinRequest]
) -> None:
    registry.down = True
    with pytest.raises(BrokerUnreachable):
        make_admission().join(wish(), "farm.lan", "10.0.0.9")
    assert not joins


def test_the_password_is_not_logged(make_admission, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer = make_admission().join(wish(), "farm.lan", "10.0.0.9")
    assert "10.0.0.9" in caplog.text
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(answer)
    assert "s3cret" in to_json(answer), "the worker itself needs it"


@pytest.mark.parametrize(
    ("public_url", "reached_by", "expected"),
    [
        (None, "farm.lan", "http://farm.lan:8423"),
        (None, "fd00::7", "http://[fd00::7]:8423"),
        ("https://coordinator:8420", "farm.lan", "http://coordinator:8423"),
    ],
)
def test_archives_are_where_workers_find_us(
    make_admission, public_url: str | None, reached_by: str, expected: str
) -> None:
    assert make_admission(public_url=public_url).archive_url_for(reached_by, 8423) == expected


def at(installation: str, node_id: str = "n1", **changes: object) -> JoinRequest:
    return replace(wish(node_id), installation=installation, fresh=True, **changes)


def here(installation: str) -> Presence:
    return node("n1", installation=installation)


def test_a_copied_work_folder_becomes_a_node_of_its_own_with_a_word(
    make_admission, registry: FakeRegistry, joins: list[JoinRequest], caplog: pytest.LogCaptureFixture
) -> None:
    admission = make_admission()
    registry.here = {"n1": here("first")}
    answer = admission.join(at("copy", kept=("a.1",)), "farm.lan", "10.0.0.9")
    assert answer.node_id not in ("", "n1")
    assert answer.queue == f"farm.{answer.node_id}"
    assert (joins[0].node_id, joins[0].kept) == (answer.node_id, ()), "the first one's frames are not its own"
    assert "10.0.0.9 has the same identity as another one" in caplog.text
    again = admission.join(at("copy"), "farm.lan", "10.0.0.9")
    assert again.node_id == answer.node_id, "its answer may have been lost"


def test_copies_that_start_in_the_same_moment_are_told_apart(make_admission) -> None:
    """Given a whole classroom from one disk image, none of which has written a record yet."""
    admission = make_admission()
    ids = {admission.join(at(f"pc-{number}"), "farm.lan", "10.0.0.9").node_id for number in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize("is_seen", [True, False], ids=["its record is still there", "it said goodbye"])
def test_a_worker_that_is_started_anew_is_the_same_node_at_once(
    make_admission, registry: FakeRegistry, is_seen: bool
) -> None:
    admission = make_admission()
    admission.join(at("first"), "farm.lan", "10.0.0.9")
    registry.here = {"n1": here("first")} if is_seen else {}
    assert admission.join(at("first"), "farm.lan", "10.0.0.10").node_id == "n1"


def test_a_worker_that_is_started_anew_after_the_coordinator_is_the_same_node(
    make_admission, registry: FakeRegistry
) -> None:
    registry.here = {"n1": here("first")}
    assert make_admission().join(at("first"), "farm.lan", "10.0.0.9").node_id == "n1"


def test_a_work_folder_that_moved_is_the_same_node_when_the_old_place_is_silent(
    make_admission, clock: ManualClock
) -> None:
    admission = make_admission()
    admission.join(at("first"), "farm.lan", "10.0.0.9")
    clock.now += NODE_SILENT_AFTER_S
    assert admission.join(at("moved"), "farm.lan", "10.0.0.9").node_id == "n1"


def test_of_two_that_live_under_one_identity_the_one_that_joined_last_keeps_it(
    make_admission, registry: FakeRegistry
) -> None:
    """Given a PC that slept while a copy of it took its place, and both write records now."""
    admission = make_admission()
    registry.here = {"n1": here("sleeper")}
    admission.join(at("sleeper"), "farm.lan", "10.0.0.9")
    registry.here = {}
    admission._joined.clear()
    admission.join(at("copy"), "farm.lan", "10.0.0.10")
    registry.here = {"n1": here("sleeper")}
    assert admission.join(replace(at("copy"), fresh=False), "farm.lan", "10.0.0.10").node_id == "n1"
    assert admission.join(replace(at("sleeper"), fresh=False), "farm.lan", "10.0.0.9").node_id != "n1"


def test_who_names_a_node_without_its_secret_is_another_node_and_takes_none_of_its_leases(
    make_admission, joins: list[JoinRequest], registry: FakeRegistry
) -> None:
    admission = make_admission()
    admission.join(replace(wish("n1"), installation="pc"), "farm.lan", "10.0.0.9")
    registry.here = {"n1": node("n1", installation="pc")}
    false_node = replace(wish("n1", secret="6" * 64), installation="pc", fresh=True, kept=("a.1",))
    answers = [admission.join(false_node, "farm.lan", "10.0.0.66") for _ in range(2)]
    assert answers[0].node_id == answers[1].node_id != "n1"
    assert answers[0].queue == f"farm.{answers[0].node_id}"
    assert [(request.node_id, request.kept) for request in joins[1:]] == [(answers[0].node_id, ())] * 2
    assert admission.is_node("n1", NODE_SECRET)
    assert not admission.is_node("n1", "6" * 64)
    assert admission.is_node(answers[0].node_id, "6" * 64)


@pytest.mark.parametrize("node_id", ["n1", "n2"])
def test_a_revoked_node_does_not_join_under_any_id(
    make_admission, ledger: Ledger, joins: list[JoinRequest], node_id: str
) -> None:
    make_admission().join(wish("n1"), "farm.lan", "10.0.0.9")
    NodeCredentials(KeyValueStore(ledger.database)).revoke("n1")
    with pytest.raises(NodeRevoked, match="node-secret"):
        make_admission().join(wish(node_id), "farm.lan", "10.0.0.9")
    assert len(joins) == 1


def test_a_node_that_is_away_is_not_taken_over_either(make_admission) -> None:
    make_admission().join(wish("n1"), "farm.lan", "10.0.0.9")
    again = make_admission()
    assert again.join(wish("n1", secret="6" * 64), "farm.lan", "10.0.0.66").node_id != "n1"
    assert again.join(wish("n1"), "farm.lan", "10.0.0.9").node_id == "n1"


def test_a_copied_folder_has_the_same_secret_and_becomes_a_node_of_its_own(
    make_admission, registry: FakeRegistry
) -> None:
    admission = make_admission()
    admission.join(replace(wish("n1"), installation="pc"), "farm.lan", "10.0.0.9")
    registry.here = {"n1": node("n1", installation="pc")}
    copy = admission.join(replace(wish("n1"), installation="copy"), "farm.lan", "10.0.0.10")
    assert copy.node_id != "n1"
    assert admission.is_node(copy.node_id, NODE_SECRET)
    again = admission.join(replace(wish(copy.node_id), installation="copy"), "farm.lan", "10.0.0.10")
    assert again.node_id == copy.node_id


def test_an_address_that_joins_again_and_again_is_slowed_down(make_admission) -> None:
    admission = make_admission()
    for _ in range(BURST):
        admission.join(wish(), "farm.lan", "10.0.0.66")
    with pytest.raises(TooManyJoins):
        admission.join(wish(), "farm.lan", "10.0.0.66")
    admission.join(wish(), "farm.lan", "10.0.0.9")
