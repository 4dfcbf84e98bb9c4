"""What a PC that nobody knows may ask, and what a certificate opens and does not open; over TLS at a real port."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from coordinator.access.roles import Role
from coordinator.api.app import ApiServices, create_api
from coordinator.certificates.farm_authority import FarmAuthority
from coordinator.certificates.invitations import Invitations
from coordinator.certificates.node_certificates import NodeCertificates
from coordinator.runtime.http_server import UvicornThread
from sheepfold.contract.api_messages import (
    CONTRACT_VERSION,
    NODE_SECRET_HEADER,
    CertificateRequest,
    JoinAnswer,
    JoinRequest,
    StartAnswer,
    archive_key,
)
from sheepfold.contract.codec import to_json
from sheepfold.contract.presence import Compute, NodeHardware
from sheepfold.serving.tls_or_plain import TlsRules
from sheepfold.tls.certificates import COORDINATOR_NAME, fingerprint, new_key, signing_request
from sheepfold.tls.connections import FarmConnection
from sheepfold.tls.contexts import TlsFiles, client_context

TOKEN, ADMIN, SECRET = "a-farm-token", "an-admins-password", "5" * 64


class Admission:
    """Admits everybody; a node's secret is the same for all."""

    def join(self, wish: JoinRequest, reached_by: str, address: str) -> JoinAnswer:
        return JoinAnswer(
            name=wish.wanted_name, redis_url="redis://h", queue="q", farm_id="f", order_key="k", node_id=wish.node_id
        )

    def is_node(self, node_id: str, secret: str) -> bool:
        return secret == SECRET

    def is_taken(self, node_id: str, secret: str) -> bool:
        return False

    def is_revoked(self, node_id: str) -> bool:
        return node_id == "revoked"


class Claims:
    """Lets every attempt start."""

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> StartAnswer:
        return StartAnswer()


class LanApi:
    """A coordinator's port, and what its callers have."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.authority = folder, FarmAuthority(folder / "tls", list)
        self.authority.open()
        self.invitations = Invitations()
        admission, never = cast("Any", Admission()), cast("Any", None)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        parts = ApiServices(
            farm_token=TOKEN,
            passwords={Role.ADMIN: ADMIN},
            tokens_from_elsewhere=False,
            certificates=NodeCertificates(self.authority, self.invitations, admission, lambda: "farm:8420"),
            claims=cast("Any", Claims()),
            nodes=admission,
            archives=never,
            operator=never,
            flower=never,
            revocation=never,
            jobs=never,
            metrics=CollectorRegistry(),
        )
        tls = TlsRules(context=self.authority.server_context)
        self.server = UvicornThread(create_api(parts), "127.0.0.1", self.port, tls=tls).bind().start()
        self._monkeypatch = monkeypatch

    def everybody_is_elsewhere(self) -> None:
        """Whoever calls from now on counts as another machine."""
        self._monkeypatch.setattr("coordinator.api.access_guard.is_from_here", lambda _: False)

    def node_files(self, node_id: str) -> TlsFiles:
        key = new_key()
        files = TlsFiles(
            authority=self.authority.files.authority,
            certificate=self.folder / f"{node_id}.pem",
            key=self.folder / f"{node_id}-key.pem",
        )
        files.key.write_bytes(key)
        files.certificate.write_bytes(self.authority.sign_node(signing_request(key), node_id))
        return files

    def ask(
        self, method: str, path: str, body: object = None, own: TlsFiles | None = None, **headers: str
    ) -> tuple[int, Any]:
        context = client_context(self.authority.certificate, own)
        connection: HTTPSConnection = FarmConnection(
            "127.0.0.1", self.port, name=COORDINATOR_NAME, context=context, timeout=10
        )
        try:
            content = None if body is None else to_json(body).encode()
            connection.request(method, path, body=content, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else text
        finally:
            connection.close()


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LanApi]:
    api = LanApi(tmp_path, monkeypatch)
    yield api
    api.server.stop()


def join_of(node_id: str) -> JoinRequest:
    hardware = NodeHardware(
        os="linux", bits="64bit", cpu_family="", cpu_model="", cpu_model_name="", cpu_cores=1, ram=1
    )
    return JoinRequest(
        contract_version=CONTRACT_VERSION, node_id=node_id, secret=SECRET, wanted_name="pc", slots=1,
        compute=Compute.CPU, hardware=hardware,
    )  # fmt: skip


def wish(code: str, node_id: str = "n1", key: bytes | None = None) -> CertificateRequest:
    request = signing_request(key or new_key()).decode()
    return CertificateRequest(code=code, node_id=node_id, secret=SECRET, request=request)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_authority_is_for_everybody_and_the_fingerprint_for_admins(api: LanApi) -> None:
    status, authority = api.ask("GET", "/farm-ca.pem")
    assert (status, fingerprint(authority)) == (200, api.authority.fingerprint)
    assert api.ask("POST", "/api/invitations")[0] == 401
    assert api.ask("POST", "/api/invitations", own=api.node_files("n1"))[0] == 401
    assert api.ask("POST", "/api/invitations", **bearer(TOKEN))[0] == 403
    status, given = api.ask("POST", "/api/invitations", **bearer(ADMIN))
    assert (status, given["fingerprint"]) == (200, api.authority.fingerprint)
    assert given["line"].startswith(f"sheepfold://farm:8420/{given['fingerprint']}/")


def test_a_code_gives_one_key_a_certificate(api: LanApi) -> None:
    code, key = api.invitations.issue(), new_key()
    status, answer = api.ask("POST", "/api/certificate", wish(code, key=key))
    assert (status, answer["node_id"]) == (200, "n1")
    assert api.ask("POST", "/api/certificate", wish(code, key=key))[0] == 200
    assert api.ask("POST", "/api/certificate", wish(code)) == (403, {"detail": answer_of_bad_invitation()})


def answer_of_bad_invitation() -> str:
    return "This invitation is wrong, used already or too old: ask for another one with `sheepfold node invite`."


def test_guessing_codes_is_slowed_down(api: LanApi) -> None:
    statuses = [api.ask("POST", "/api/certificate", wish("0" * 40))[0] for _ in range(7)]
    assert statuses == [403] * 6 + [429]
    assert api.ask("POST", "/api/certificate", wish(api.invitations.issue()))[0] == 429


def test_what_is_no_request_costs_no_invitation(api: LanApi) -> None:
    code = api.invitations.issue()
    broken = CertificateRequest(code=code, node_id="n1", secret=SECRET, request="none")
    assert api.ask("POST", "/api/certificate", broken)[0] == 422
    assert api.ask("POST", "/api/certificate", wish(code))[0] == 200


def test_a_certificate_renews_itself_for_its_own_node_alone(api: LanApi) -> None:
    status, answer = api.ask("POST", "/api/certificate", wish("", node_id="n2"), own=api.node_files("n1"))
    assert (status, answer["node_id"]) == (200, "n1")
    assert api.ask("POST", "/api/certificate", wish(""))[0] == 403


def test_a_revoked_nodes_certificate_is_not_renewed(api: LanApi) -> None:
    status, answer = api.ask("POST", "/api/certificate", wish("", node_id="revoked"), own=api.node_files("revoked"))
    assert (status, "was revoked" in answer["detail"]) == (403, True)


def test_a_node_joins_by_its_certificate_without_the_farm_token(api: LanApi) -> None:
    api.everybody_is_elsewhere()
    status, answer = api.ask("POST", "/api/join", join_of("n1"), own=api.node_files("n1"))
    assert (status, answer["archive_key"]) == (200, archive_key(TOKEN))
    assert TOKEN not in json.dumps(answer)
    status, answer = api.ask("POST", "/api/join", join_of("n2"), own=api.node_files("n1"))
    assert (status, "another node's" in answer["detail"]) == (403, True)


def test_the_farm_token_lets_nobody_in_from_another_machine(api: LanApi) -> None:
    assert api.ask("POST", "/api/join", join_of("n1"), **bearer(TOKEN))[0] == 200
    api.everybody_is_elsewhere()
    status, answer = api.ask("POST", "/api/join", join_of("n1"), **bearer(TOKEN))
    assert (status, "sheepfold node invite" in answer["detail"]) == (403, True)
    assert api.ask("POST", "/api/join", join_of("n1"))[0] == 401


def test_a_claim_is_about_the_certificates_node_and_needs_its_secret_too(api: LanApi) -> None:
    own, secret = api.node_files("n1"), {NODE_SECRET_HEADER: SECRET}
    path = "/api/leases/ab/start?attempt=1&claim=w&node="
    assert api.ask("POST", path + "n1", own=own, **secret)[0] == 200
    assert api.ask("POST", path + "n2", own=own, **secret)[0] == 403
    assert api.ask("POST", path + "n1", own=own)[0] == 403
    assert api.ask("POST", path + "n1", **secret)[0] == 401
    archive = f"/api/archives/{'0' * 32}?node=n2"
    assert api.ask("GET", archive, own=own, **secret)[0] == 403


def test_a_certificate_opens_nothing_of_peoples(api: LanApi) -> None:
    own = api.node_files("n1")
    for method, path in (("GET", "/api/status"), ("GET", "/api/broker"), ("POST", "/api/ask"), ("GET", "/metrics")):
        assert api.ask(method, path, own=own)[0] == 401


def test_another_authoritys_certificate_is_cut_off_before_anything_is_read(api: LanApi, tmp_path: Path) -> None:
    foreign = FarmAuthority(tmp_path / "foreign", list)
    foreign.open()
    key = new_key()
    files = TlsFiles(
        authority=api.authority.files.authority, certificate=tmp_path / "f.pem", key=tmp_path / "f-key.pem"
    )
    files.key.write_bytes(key)
    files.certificate.write_bytes(foreign.sign_node(signing_request(key), "n1"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        api.ask("POST", "/api/join", join_of("n1"), own=files)
