from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, cast

import pytest

from coordinator.settings import SessionMode
from coordinator.upstream.session import FarmSession
from coordinator.upstream.session_pool import SessionPool, hardware_for_server, platform_of
from coordinator.upstream.session_state import SessionState
from coordinator.upstream.signing_in import DescribedMachine
from sheepfold.contract.presence import Presence
from sheepfold.protocol.session_messages import Hardware
from tests.support.coordinator.fakes import HARDWARE, FakeSession, node

GIB = 1024**3


class FakeSessions:
    """Makes sessions that are signed out, and remembers them."""

    def __init__(self) -> None:
        self.sessions: dict[str, FakeSession] = {}
        self.count = 0

    def __call__(self, key: str, hardware: Hardware) -> FarmSession:
        self.count += 1
        self.sessions[key] = FakeSession(
            key=key, machine=DescribedMachine(hardware=hardware), state=SessionState.SIGNED_OUT, notice="not yet"
        )
        return cast("FarmSession", self.sessions[key])


@pytest.fixture
def sessions() -> FakeSessions:
    return FakeSessions()


def present_nodes(*present: Presence) -> dict[str, Presence]:
    return {node.node_id: node for node in present}


def pc(node_id: str, **hardware: Any) -> Presence:
    return node(node_id, hardware=hardware)


def test_the_farms_session_is_there_before_the_first_pc(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.FARM, sessions).open(HARDWARE)
    assert list(pool) == ["farm:linux/64bit"]
    assert pool["farm:linux/64bit"].machine.hardware == hardware_for_server(HARDWARE)


def test_a_farm_holds_one_session_a_platform(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.FARM, sessions).open(HARDWARE)
    present = present_nodes(pc("a"), pc("b"), pc("c", os="windows"), pc("d", os="windows", bits="32bit"))
    groups = pool.assign(present)
    assert {key: [node.node_id for node in nodes] for key, nodes in groups.items()} == {
        "farm:linux/64bit": ["a", "b"],
        "farm:windows/64bit": ["c"],
        "farm:windows/32bit": ["d"],
    }
    assert set(pool) == set(groups)
    assert pool["farm:windows/32bit"].machine.hardware.bits == "32bit"


def test_machine_mode_holds_one_session_a_pc_and_none_before_the_first(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.MACHINE, sessions).open(HARDWARE)
    assert len(pool) == 0
    groups = pool.assign(present_nodes(pc("a", cpu_cores=2), pc("b", cpu_cores=4)))
    assert {key: [node.node_id for node in nodes] for key, nodes in groups.items()} == {
        "node:a": ["a"],
        "node:b": ["b"],
    }
    assert [pool[key].machine.hardware.cpu_cores for key in ("node:a", "node:b")] == [2, 4]


def test_a_session_is_opened_once_however_often_pcs_are_grouped(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.MACHINE, sessions).open(HARDWARE)
    start = threading.Barrier(8)

    def group() -> None:
        start.wait()
        pool.assign(present_nodes(*(pc(f"n{number}") for number in range(20))))

    threads = [threading.Thread(target=group) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sessions.count == 20
    assert len(pool) == 20


def test_a_session_describes_the_strongest_pc_of_its_platform(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.FARM, sessions).open(HARDWARE)
    pool.assign(
        present_nodes(pc("a", cpu_cores=16, ram=8 * GIB), pc("b", cpu_cores=16, ram=64 * GIB), pc("c", ram=99 * GIB))
    )
    hardware = pool["farm:linux/64bit"].machine.hardware
    assert (hardware.cpu_cores, hardware.ram) == (16, 64 * GIB)


def test_a_strong_pc_that_went_home_is_still_what_the_session_describes(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.FARM, sessions).open(HARDWARE)
    pool.assign(present_nodes(pc("a", cpu_cores=64), pc("b", cpu_cores=2)))
    pool.assign(present_nodes(pc("b", cpu_cores=2)))
    assert pool["farm:linux/64bit"].machine.hardware.cpu_cores == 64


def test_a_session_of_another_platform_from_before_a_restart_keeps_its_platform(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.FARM, sessions).open(HARDWARE, {"farm:windows/32bit", "farm:linux/64bit"})
    session = pool["farm:windows/32bit"]
    # It may have to sign in again before any of its PCs is back.
    assert (session.machine.hardware.os, session.machine.hardware.bits) == ("windows", "32bit")
    assert pool.keys() == {"farm:windows/32bit", "farm:linux/64bit"}, "the farm's own is opened once"


def test_a_session_that_was_taken_up_again_describes_its_pcs_once_they_are_back(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.MACHINE, sessions).open(HARDWARE, {"node:w"})
    sessions.sessions["node:w"].state = SessionState.SIGNED_IN
    pool.assign(present_nodes(pc("w", os="windows", cpu_cores=4)))
    hardware = pool["node:w"].machine.hardware
    assert (hardware.os, hardware.cpu_cores) == ("windows", 4), "the next sign-in uses it"


@pytest.mark.parametrize(
    ("mode", "key", "name"),
    [(SessionMode.FARM, "farm:linux/64bit", "linux/64bit"), (SessionMode.MACHINE, "node:n1", "pc-07")],
)
def test_the_status_names_each_session_with_the_servers_last_word(
    sessions: FakeSessions, mode: SessionMode, key: str, name: str
) -> None:
    pool = SessionPool(mode, sessions).open(HARDWARE)
    present = present_nodes(node("n1", name="pc-07"))
    pool.assign(present)
    assert pool.status(present) == [{"key": key, "name": name, "state": "signed out", "notice": "not yet"}]


def test_the_session_of_a_pc_that_is_off_is_still_told(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.MACHINE, sessions).open(HARDWARE)
    pool.assign(present_nodes(node("n1")))
    assert [session["name"] for session in pool.status({})] == ["n1"]


def test_a_session_nobody_opened_is_not_there(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.FARM, sessions).open(HARDWARE)
    assert pool.get("node:x") is None
    with pytest.raises(KeyError):
        pool["node:x"]


def test_the_server_is_told_nothing_of_gpus() -> None:
    described = hardware_for_server(replace(HARDWARE, gpus=("RTX",)))
    assert described == Hardware(
        os="linux",
        bits="64bit",
        cpu_family="6",
        cpu_model="85",
        cpu_model_name="Xeon",
        cpu_cores=8,
        ram=16 * GIB,
    )
    assert platform_of(HARDWARE) == "linux/64bit"


def test_a_session_is_named_after_the_pc_it_describes(sessions: FakeSessions) -> None:
    pool = SessionPool(SessionMode.FARM, sessions).open(HARDWARE)
    assert pool.described_node("farm:linux/64bit") == "", "the coordinator's own machine"
    pool.assign(present_nodes(node("a", name="pc-a", hardware={"cpu_cores": 2}), node("b", name="pc-b")))
    session = sessions.sessions["farm:linux/64bit"]
    assert (session.machine.hostname, session.machine.node_id) == ("pc-b", "b")
    assert pool.described_node("farm:linux/64bit") == "b"
    assert pool.described_node("node:nobody") == ""


def test_the_server_may_be_told_which_system_it_is() -> None:
    assert hardware_for_server(replace(HARDWARE, os_version="Debian 12")).os_version == "Debian 12"
