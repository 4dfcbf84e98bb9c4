"""Who gets a certificate of the farm: a PC with an invitation, and a node that shows the one it has."""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from coordinator.nodes.errors import NodeRevoked
from coordinator.settings import CoordinatorSettings
from sheepfold.contract.api_messages import CertificateAnswer, CertificateRequest
from sheepfold.contract.invitations import Invitation
from sheepfold.tls.certificates import request_key_sum

from .farm_authority import FarmAuthority
from .invitations import VALID_S, Invitations
from .own_names import address_for_others

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class InvitationGiven:
    """What an admin is told; ``line`` holds the code."""

    line: str
    fingerprint: str
    #: Seconds until the code ends.
    valid_s: float


class KnownNodes(Protocol):
    """Knows whose an id is (:class:`coordinator.nodes.admission.NodeAdmission`)."""

    def is_taken(self, node_id: str, secret: str, /) -> bool: ...
    def is_revoked(self, node_id: str, /) -> bool: ...


class NodeCertificates:
    """Invites PCs, and signs for them. Thread-safe."""

    def __init__(
        self, authority: FarmAuthority, invitations: Invitations, nodes: KnownNodes, address: Callable[[], str]
    ) -> None:
        """``address``: ``host:port`` at which PCs find the LAN API."""
        self._authority, self._invitations, self._nodes, self._address = authority, invitations, nodes, address

    @property
    def authority(self) -> bytes:
        """The certificate of the farm's authority, PEM; no secret."""
        return self._authority.certificate

    def invite(self) -> InvitationGiven:
        """A line for one PC. Raises TooManyInvitations."""
        fingerprint = self._authority.fingerprint
        invitation = Invitation(address=self._address(), fingerprint=fingerprint, code=self._invitations.issue())
        log.info("a PC was invited to %s; the invitation ends in %.0f minutes", invitation.address, VALID_S / 60)
        return InvitationGiven(line=invitation.line, fingerprint=fingerprint, valid_s=VALID_S)

    def sign(self, wish: CertificateRequest, shown: str, address: str) -> CertificateAnswer:
        """A certificate for ``shown``, the node whose certificate was shown, or by invitation where none was.

        Raises BadCertificate, BadInvitation, NodeRevoked and TooManyGuesses.
        """
        if shown and self._nodes.is_revoked(shown):
            raise NodeRevoked(shown)
        request = wish.request.encode()
        key_sum = request_key_sum(request)
        if shown:
            node_id, how = shown, "renewed its certificate"
        else:
            self._invitations.redeem(wish.code, key_sum, address)
            node_id, how = self._identity(wish, key_sum), "has a certificate by invitation"
        certificate = self._authority.sign_node(request, node_id)
        log.info("node %s from %s %s", node_id, address, how)
        return CertificateAnswer(certificate=certificate.decode(), node_id=node_id)

    def _identity(self, wish: CertificateRequest, key_sum: bytes) -> str:
        """The id that was asked for; another one, the same for the same key, where it is somebody else's."""
        if not self._nodes.is_taken(wish.node_id, wish.secret):
            return wish.node_id
        return str(uuid.uuid5(uuid.NAMESPACE_OID, key_sum.hex()))


def node_certificates(settings: CoordinatorSettings, authority: FarmAuthority, nodes: KnownNodes) -> NodeCertificates:
    """For the coordinator of these settings."""
    address = functools.partial(address_for_others, settings.host, settings.port, settings.public_url)
    return NodeCertificates(authority, Invitations(), nodes, address)
