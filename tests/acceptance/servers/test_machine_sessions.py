"""One session per PC, at a server that grants each session few frames at a time: real processes."""

from __future__ import annotations

from pathlib import Path

from tests.support.farm.faulty_farm import FaultyFarm

PCS = ("pc-01", "pc-02", "pc-03")
#: Frames a session may hold that are not validated yet.
GRANTED_AT_ONCE = 2


def test_every_pc_renders_under_its_own_session_and_none_asks_for_more_than_the_server_grants(tmp_path: Path) -> None:
    environment = {"SHEEPFOLD_SESSIONS": "machine", "SHEEPFOLD_MAX_UNVALIDATED": str(GRANTED_AT_ONCE)}
    farm = FaultyFarm(tmp_path, environment=environment)
    try:
        farm.begin(*PCS)
        project = farm.submit("1-18", seconds=0.2)
        farm.wait_until_accepted(project, 18, 40)
        assert {session["name"]: session["state"] for session in farm.status()["sessions"]} == dict.fromkeys(
            PCS, "signed in"
        )
        leases = farm.leases(project)
        assert all(lease["session_key"] == f"node:{lease['node_id']}" for lease in leases)
        assert len({lease["node_id"] for lease in leases}) == len(PCS), "nobody is left out"
        accounting = farm.accounting()
        assert (accounting["grants"], accounting["accepted"], accounting["expiries"], accounting["errors"]) == (
            18,
            18,
            0,
            0,
        )
    finally:
        farm.end()
