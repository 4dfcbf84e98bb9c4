from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from coordinator.access.roles import Role
from coordinator.api.app import MAX_JOIN_BYTES, ApiServices, create_api
from coordinator.api.operator_service import FrameLog
from coordinator.archives.errors import ManifestUnderWay
from coordinator.certificates.errors import BadInvitation
from coordinator.certificates.node_certificates import InvitationGiven
from coordinator.delivery.errors import BrokenPicture, CutOff, NotYourLease, StaleClaim
from coordinator.jobs.blocks import BlockedBy, JobBlock
from coordinator.jobs.control import Job, Stopped
from coordinator.jobs.errors import UnknownJob
from coordinator.nodes.errors import BrokerUnreachable, UnknownNode
from coordinator.nodes.revocation import Revoked
from sheepfold.contract.api_messages import (
    CONTRACT_VERSION,
    NODE_SECRET_HEADER,
    ArchiveManifest,
    ArchiveSources,
    CertificateAnswer,
    CertificateRequest,
    FailureKind,
    FailureReport,
    FrameReport,
    JoinAnswer,
    JoinRequest,
    StartAnswer,
)
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.presence import Compute, NodeHardware
from sheepfold.errors import DiskFull

TOKEN = "a-token-of-the-farm"
NODE_SECRET = "5" * 64
BEARER = {"Authorization": f"Bearer {TOKEN}", NODE_SECRET_HEADER: NODE_SECRET}
PASSWORDS = {
    Role.VIEWER: "a-viewers-word",
    Role.OPERATOR: "an-operators-word",
    Role.ADMIN: "an-admins-word",
}
VIEWER, OPERATOR, ADMIN = ({"Authorization": f"Bearer {password}"} for password in PASSWORDS.values())
ARCHIVE = "c" * 32
SOURCES = ArchiveSources(nodes=("http://10.0.0.8:1",), coordinator="http://coordinator:8423")
HARDWARE = NodeHardware(
    os="linux", bits="64bit", cpu_family="6", cpu_model="85", cpu_model_name="Xeon", cpu_cores=8, ram=16 * 1024**3
)
JOIN = JoinRequest(
    contract_version=CONTRACT_VERSION,
    node_id="n1",
    secret=NODE_SECRET,
    wanted_name="pc",
    hardware=HARDWARE,
    slots=1,
    compute=Compute.CPU,
)
FRAME = {"node": "n1", "attempt": 1, "name": "a.png", "md5": "0" * 32, "render_s": 1.5, "memory_kb": 9, "cores": 2}


@dataclass
class FakeClaims:
    """Notes claims, and raises ``error`` where one is set."""

    error: Exception | None = None
    seen: list[tuple[Any, ...]] = field(default_factory=list)

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> StartAnswer:
        self._note(lease_id, attempt, node_id, claim)
        return StartAnswer(scene_password="opens it")

    def deliver(self, lease_id: str, attempt: int, node_id: str, report: FrameReport, chunks: Iterator[bytes]) -> None:
        self._note(lease_id, attempt, node_id, report, b"".join(chunks))

    def fail(self, lease_id: str, attempt: int, node_id: str, report: FailureReport) -> None:
        self._note(lease_id, attempt, node_id, report)

    def _note(self, *what: Any) -> None:
        self.seen.append(what)
        if self.error is not None:
            raise self.error


class FakeArchives:
    """Holds one archive, and notes who asks."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.reading = False

    def plan(self, md5: str, node_id: str, node_url: str, reached_by: str) -> ArchiveManifest | None:
        sources = self.sources(md5, node_id, node_url, reached_by)
        if self.reading:
            raise ManifestUnderWay
        return ArchiveManifest(md5=md5, size=3, piece_bytes=1024**2, sums=("ab",), sources=sources) if sources else None

    def sources(self, md5: str, node_id: str, node_url: str, reached_by: str) -> ArchiveSources | None:
        self.asked.append((md5, node_id, node_url, reached_by))
        return SOURCES if md5 == ARCHIVE else None


@pytest.fixture
def claims() -> FakeClaims:
    return FakeClaims()


@pytest.fixture
def archives() -> FakeArchives:
    return FakeArchives()


class FakeJobs:
    """Knows one job."""

    job = Job(number="7", name="film")

    def cancel(self, job: str, frame: str | None) -> list[Stopped]:
        if job != self.job.number:
            raise UnknownJob(job, [self.job])
        return [Stopped(job=self.job, frame=frame, frames=2, at_server="")]

    def unblock(self, job: str, frame: str | None) -> list[JobBlock]:
        return [JobBlock(job_id=job, name="film", reason="", by=BlockedBy.OPERATOR, since=1.0, frame=frame)]


class FakeAdmission:
    """Admits everybody."""

    def join(self, wish: JoinRequest, reached_by: str, address: str) -> JoinAnswer:
        name = f"{wish.wanted_name}-{reached_by}"
        return JoinAnswer(name=name, redis_url="redis://h", queue="farm.n1", farm_id="f1", order_key="key")

    def is_node(self, node_id: str, secret: str) -> bool:
        return node_id != "another" and secret == NODE_SECRET


class FakeLogins:
    """Knows where Redis is."""

    def flower_login(self, reached_by: str) -> str:
        return f"redis://{reached_by}"


class FakeRevocation:
    """Knows one PC."""

    def revoke(self, name: str) -> list[Revoked]:
        if name != "pc":
            raise UnknownNode(name)
        return [Revoked(node_id="n1", name=name, is_cut_off=True)]


class FakeOperator:
    """Knows one PC and one failed frame."""

    def status(self) -> dict[str, Any]:
        return {"accepted": 3}

    def ask_now(self) -> list[dict[str, Any]]:
        return [{"name": "linux/64bit", "asked": True, "said": "asking now"}]

    def release(self, name: str) -> bool:
        return name == "pc"

    def log(self, job: str, frame: str) -> FrameLog | None:
        found = FrameLog(path="/logs/a.1.log", reason="no camera", text="Error: no camera")
        return found if (job, frame) == ("film", "12") else None


class FakeCertificates:
    """Signs nothing."""

    authority = b"-----BEGIN CERTIFICATE-----"

    def invite(self) -> InvitationGiven:
        return InvitationGiven(line="sheepfold://a-code", fingerprint="ab", valid_s=900.0)

    def sign(self, wish: CertificateRequest, shown: str, address: str) -> CertificateAnswer:
        raise BadInvitation


def fake_services(claims: FakeClaims, archives: FakeArchives) -> ApiServices:
    return ApiServices(
        farm_token=TOKEN,
        passwords=PASSWORDS,
        claims=claims,
        certificates=FakeCertificates(),
        nodes=FakeAdmission(),
        archives=archives,
        operator=FakeOperator(),
        flower=FakeLogins(),
        revocation=FakeRevocation(),
        jobs=FakeJobs(),
        metrics=CollectorRegistry(),
    )


def create_fake_api(claims: FakeClaims, archives: FakeArchives) -> ASGIApp:
    return create_api(fake_services(claims, archives))


@pytest.fixture
def client(claims: FakeClaims, archives: FakeArchives) -> TestClient:
    return TestClient(create_fake_api(claims, archives), base_url="http://coordinator:8420")


def test_a_worker_joins_and_is_told_by_the_name_it_knows_us_by(client: TestClient) -> None:
    answer = client.post("/api/join", content=to_json(JOIN), headers=BEARER)
    assert from_json(JoinAnswer, answer.content).name == "pc-coordinator"


@pytest.mark.parametrize(
    ("version", "older"), [(CONTRACT_VERSION - 1, "worker"), (CONTRACT_VERSION + 1, "coordinator")]
)
def test_a_worker_of_another_contract_is_told_what_to_update(client: TestClient, version: int, older: str) -> None:
    other = to_json(JOIN).replace(f'"contract_version":{CONTRACT_VERSION}', f'"contract_version":{version}')
    answer = client.post("/api/join", content=other, headers=BEARER)
    assert answer.status_code == 426
    assert answer.json()["detail"] == (
        f"this coordinator speaks version {CONTRACT_VERSION}, the worker {version}: "
        f"update sheepfold on the {older}'s machine"
    )


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"contract_version": "1"}'])
def test_a_join_that_is_none_is_told_why(client: TestClient, body: bytes) -> None:
    assert client.post("/api/join", content=body, headers=BEARER).status_code == 422


def test_a_message_without_end_is_cut_short(client: TestClient) -> None:
    body = b" " * (MAX_JOIN_BYTES + 1)
    assert client.post("/api/join", content=body, headers=BEARER).status_code == 413


def test_a_node_is_told_how_an_archive_travels_and_from_where(client: TestClient, archives: FakeArchives) -> None:
    asks = {"node": "n1", "url": "http://10.0.0.7:4000"}
    answer = client.get(f"/api/archives/{ARCHIVE}", params=asks, headers=BEARER)
    assert from_json(ArchiveManifest, answer.content).sources == SOURCES
    answer = client.get(f"/api/archives/{ARCHIVE}/sources", params=asks, headers=BEARER)
    assert from_json(ArchiveSources, answer.content) == SOURCES
    assert archives.asked == [(ARCHIVE, "n1", "http://10.0.0.7:4000", "coordinator")] * 2


@pytest.mark.parametrize("path", ["", "/sources"])
@pytest.mark.parametrize("md5", ["d" * 32, "..%2f..%2fetc%2fpasswd", "C" * 32, "x"])
def test_an_archive_that_is_not_here_is_not_found(client: TestClient, md5: str, path: str) -> None:
    assert client.get(f"/api/archives/{md5}{path}?node=n1", headers=BEARER).status_code == 404


@pytest.mark.parametrize("asks", [{}, {"node": "../x"}, {"node": "n" * 65}, {"node": "n", "url": "x" * 301}])
def test_a_question_without_a_node_that_could_be_one_is_refused(client: TestClient, asks: dict[str, str]) -> None:
    assert client.get(f"/api/archives/{ARCHIVE}", params=asks, headers=BEARER).status_code == 422


def test_a_node_asks_again_while_an_archive_is_being_read(client: TestClient, archives: FakeArchives) -> None:
    archives.reading = True
    assert client.get(f"/api/archives/{ARCHIVE}?node=n1", headers=BEARER).status_code == 503


def test_claims_arrive_as_they_were_made(client: TestClient, claims: FakeClaims) -> None:
    report = FailureReport(kind=FailureKind.NO_OUTPUT, reason="nothing", log="log")
    started = client.post("/api/leases/aa/start", params={"node": "n1", "attempt": 1, "claim": "w"}, headers=BEARER)
    client.put("/api/leases/aa/frame", params=FRAME, content=b"picture", headers=BEARER)
    client.post("/api/leases/aa/failure", params={"node": "n1", "attempt": 2}, content=to_json(report), headers=BEARER)
    frame = FrameReport(name="a.png", md5="0" * 32, render_s=1.5, memory_kb=9, cores=2)
    assert from_json(StartAnswer, started.content) == StartAnswer(scene_password="opens it")
    assert claims.seen == [("aa", 1, "n1", "w"), ("aa", 1, "n1", frame, b"picture"), ("aa", 2, "n1", report)]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StaleClaim("no longer yours"), 409),
        (BrokenPicture("black"), 422),
        (CutOff("a", "b"), 400),
        (BrokerUnreachable("away"), 503),
        (DiskFull(Path("spool")), 507),
    ],
)
def test_a_node_reads_from_the_status_what_to_do(
    client: TestClient, claims: FakeClaims, error: Exception, status: int
) -> None:
    claims.error = error
    answer = client.put("/api/leases/aa/frame", params=FRAME, content=b"picture", headers=BEARER)
    assert (answer.status_code, answer.json()["detail"]) == (status, str(error))


@pytest.mark.parametrize("change", [{"md5": "../x"}, {"render_s": -1}, {"attempt": "x"}, {"memory_kb": "1e99"}])
def test_a_report_that_makes_no_sense_is_refused(
    client: TestClient, claims: FakeClaims, change: dict[str, Any]
) -> None:
    answer = client.put("/api/leases/aa/frame", params=FRAME | change, content=b"picture", headers=BEARER)
    assert answer.status_code == 422
    assert not claims.seen


def test_people_look_and_operate(client: TestClient) -> None:
    assert "<title>sheepfold</title>" in client.get("/", headers=VIEWER).text
    assert client.get("/api/status", headers=VIEWER).json() == {"accepted": 3}
    assert client.get("/metrics", headers=VIEWER).status_code == 200
    assert client.post("/api/cancel?job=7&frame=0012", headers=OPERATOR).json() == {
        "cancelled": [{"job": {"number": "7", "name": "film"}, "frame": "0012", "frames": 2, "at_server": ""}]
    }
    unknown = client.post("/api/cancel?job=8", headers=OPERATOR)
    assert (unknown.status_code, unknown.json()) == (
        404,
        {"detail": "there is no job '8' here; jobs there are: 7 'film'"},
    )
    [unblocked] = client.post("/api/unblock?job=7", headers=OPERATOR).json()["unblocked"]
    assert unblocked["label"] == "job 7 · film"
    assert client.post("/api/ask", headers=OPERATOR).json()["sessions"][0]["said"] == "asking now"
    assert client.post("/api/nodes/pc/release", headers=OPERATOR).json() == {"released": True}
    assert client.post("/api/nodes/pc/revoke", headers=OPERATOR).status_code == 403
    revoked = {"node_id": "n1", "name": "pc", "is_cut_off": True}
    assert client.post("/api/nodes/pc/revoke", headers=ADMIN).json() == {"revoked": [revoked]}
    assert client.post("/api/nodes/nobody/revoke", headers=ADMIN).status_code == 404
    assert client.get("/api/broker", headers=ADMIN).json() == {"redis_url": "redis://coordinator"}
    assert client.get("/healthz").json() == {"status": "ok"}


def test_the_log_of_a_failed_frame_is_told_with_its_place(client: TestClient) -> None:
    found = client.get("/api/log?job=film&frame=12", headers=VIEWER)
    assert found.json() == {"path": "/logs/a.1.log", "reason": "no camera", "text": "Error: no camera"}
    unknown = client.get("/api/log?job=film&frame=13", headers=VIEWER)
    assert unknown.status_code == 404
    assert "frame 13 of job film" in unknown.json()["detail"]


# Who calls


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/leases/aa/start?node={}&attempt=1&claim=w"),
        ("PUT", f"/api/leases/aa/frame?node={{}}&attempt=1&name=a.png&md5={'0' * 32}&render_s=1&memory_kb=9&cores=2"),
        ("POST", "/api/leases/aa/failure?node={}&attempt=1"),
        ("GET", f"/api/archives/{ARCHIVE}?node={{}}"),
        ("GET", f"/api/archives/{ARCHIVE}/sources?node={{}}"),
    ],
)
def test_the_farm_token_alone_makes_nobody_a_node(
    client: TestClient, claims: FakeClaims, archives: FakeArchives, method: str, path: str
) -> None:
    token_alone = {"Authorization": BEARER["Authorization"]}
    for headers in (token_alone, token_alone | {NODE_SECRET_HEADER: "6" * 64}):
        assert client.request(method, path.format("n1"), headers=headers).status_code == 403
    refused = client.request(method, path.format("another"), headers=BEARER)
    assert refused.status_code == 403
    assert "not the secret of the node" in refused.json()["detail"]
    assert NODE_SECRET not in refused.text
    assert (claims.seen, archives.asked) == ([], [])


def test_a_claim_about_another_nodes_attempt_is_refused(client: TestClient, claims: FakeClaims) -> None:
    claims.error = NotYourLease("aa")
    assert client.put("/api/leases/aa/frame", params=FRAME, content=b"picture", headers=BEARER).status_code == 403


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node_id", "../n1"),
        ("node_id", "n" * 65),
        ("node_id", "n1\n"),
        ("secret", ""),
        ("secret", "5" * 63),
        ("wanted_name", "p" * 257),
        ("slots", 0),
        ("slots", 10**9),
        ("version", "v" * 257),
        ("kept", ["a.1"] * 2049),
        ("kept", ["a" * 300]),
        ("installation", "i" * 257),
        ("hardware", {"cpu_model_name": "x" * 257}),
        ("hardware", {"gpus": ["g"] * 65}),
    ],
)
def test_a_join_brings_no_more_than_a_node_has(client: TestClient, name: str, value: Any) -> None:
    fields = json.loads(to_json(JOIN))
    fields[name] = fields[name] | value if isinstance(value, dict) else value
    assert client.post("/api/join", content=json.dumps(fields), headers=BEARER).status_code == 422


def test_a_join_of_megabytes_is_not_read(client: TestClient) -> None:
    huge = to_json(JOIN).replace('"version":""', f'"version":"{"v" * 4_000_000}"')
    assert client.post("/api/join", content=huge, headers=BEARER).status_code == 413
