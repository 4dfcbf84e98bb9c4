"""Joins a farm by an invitation: the farm is known by its fingerprint before this PC says anything that is secret.

::

    GET /farm-ca.pem       over a connection that proves nothing; what comes must have the invitation's fingerprint
    POST /api/certificate  over a connection whose other end that authority signed: code, node id, request

The key is made here and stays here. What was got is kept by :mod:`render_tasks.membership`; a line that was used is
passed over from then on, so it may stay in the settings.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import ssl
from collections.abc import Generator
from urllib.parse import urlsplit

from render_tasks.coordinator_client import CoordinatorClient
from render_tasks.errors import CoordinatorRefused, CoordinatorUnreachable
from render_tasks.membership import Membership, keep_membership, kept_membership, own_key
from render_tasks.settings import WorkerSettings
from render_tasks.work_dir import WorkDir
from sheepfold.contract.api_messages import CertificateAnswer, CertificateRequest
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.errors import ContractError
from sheepfold.contract.invitations import Invitation
from sheepfold.tls.certificates import COORDINATOR_NAME, fingerprint, is_due_now, signing_request
from sheepfold.tls.connections import FarmConnection
from sheepfold.tls.contexts import client_context, unverified_context
from sheepfold.tls.errors import BadCertificate, NotThisFarm

log = logging.getLogger(__name__)

#: Seconds between two bytes: a coordinator on the LAN is there at once.
ANSWER_S = 10.0
#: Bytes of an answer; a certificate has a thousand.
MAX_ANSWER = 64 * 1024


def join_farm(settings: WorkerSettings, folder: WorkDir) -> Membership | None:
    """The farm that this PC joined by invitation, now or earlier; ``None``: it has the farm token instead.

    Raises NotThisFarm, CoordinatorUnreachable, CoordinatorRefused and OSError.
    """
    kept = kept_membership(folder.path)
    if settings.join is None:
        is_used = kept is not None and kept.coordinator_url == settings.coordinator_url
        return _renewed(kept, folder) if kept is not None and is_used else None
    invitation = Invitation.from_line(settings.join)
    if kept is not None and kept.fingerprint == invitation.fingerprint:
        return _renewed(Membership(coordinator_url=invitation.url, files=kept.files), folder)
    return _by_invitation(invitation, folder)


def client_of(member: Membership | None, settings: WorkerSettings, folder: WorkDir) -> CoordinatorClient:
    """The coordinator's client: by this PC's certificate, or by the farm token where it has none."""
    if member is None:
        return CoordinatorClient(settings.coordinator_url, settings.token, folder.node_secret)
    return CoordinatorClient(member.coordinator_url, "", folder.node_secret, tls=member.files)


def _by_invitation(invitation: Invitation, folder: WorkDir) -> Membership:
    authority = _pinned_authority(invitation)
    wish = CertificateRequest(
        code=invitation.code,
        node_id=folder.node_id,
        secret=folder.node_secret,
        request=signing_request(own_key(folder.path)).decode(),
    )
    answer = _ask_for_certificate(invitation.url, client_context(authority), wish)
    if answer.node_id != folder.node_id:
        log.warning("%s has another PC's node id: this is a node of its own from now on", folder.path)
        folder.take_identity(answer.node_id)
    log.info("joined the farm with the fingerprint %s", invitation.fingerprint)
    return keep_membership(folder.path, invitation.url, authority, answer.certificate.encode())


def _pinned_authority(invitation: Invitation) -> bytes:
    """The farm's authority, PEM. Raises NotThisFarm where somebody else answers, and CoordinatorUnreachable."""
    with _answer(invitation.url, unverified_context(), "GET", "/farm-ca.pem") as answer:
        authority = answer.read(MAX_ANSWER)
    try:
        found = fingerprint(authority)
    except BadCertificate:
        found = ""
    if found != invitation.fingerprint:
        raise NotThisFarm(invitation.address, "its fingerprint is another one")
    return authority


def _renewed(membership: Membership, folder: WorkDir) -> Membership:
    """The membership, with another certificate where the old one is about to end; else a later start tries again."""
    if not is_due_now(membership.files.certificate.read_bytes()):
        return membership
    request = signing_request(own_key(folder.path)).decode()
    wish = CertificateRequest(code="", node_id=folder.node_id, secret=folder.node_secret, request=request)
    try:
        context = client_context(membership.authority, membership.files)
        answer = _ask_for_certificate(membership.coordinator_url, context, wish)
    except (CoordinatorUnreachable, CoordinatorRefused, NotThisFarm) as error:
        log.warning("this PC's certificate ends soon and could not be renewed: %s", error)
        return membership
    return keep_membership(folder.path, membership.coordinator_url, membership.authority, answer.certificate.encode())


def _ask_for_certificate(url: str, context: ssl.SSLContext, wish: CertificateRequest) -> CertificateAnswer:
    with _answer(url, context, "POST", "/api/certificate", to_json(wish).encode()) as answer:
        text = answer.read(MAX_ANSWER)
    try:
        return from_json(CertificateAnswer, text)
    except ContractError as error:
        raise CoordinatorUnreachable("ask for a certificate", str(error)) from None


@contextlib.contextmanager
def _answer(
    url: str, context: ssl.SSLContext, method: str, path: str, body: bytes | None = None
) -> Generator[http.client.HTTPResponse]:
    parts, call = urlsplit(url), "ask for a certificate"
    connection = FarmConnection(
        parts.hostname or "", parts.port, name=COORDINATOR_NAME, context=context, timeout=ANSWER_S
    )
    try:
        connection.request(method, path, body=body, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise CoordinatorRefused(call, answer.status, _detail(answer.read(MAX_ANSWER)))
        yield answer
    except ssl.SSLCertVerificationError as error:
        raise NotThisFarm(parts.netloc, error.verify_message) from None
    except (OSError, http.client.HTTPException) as error:
        raise CoordinatorUnreachable(call, f"{url}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        connection.close()


def _detail(body: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return " ".join(str(json.loads(body)["detail"]).split())[:300]
    return ""
