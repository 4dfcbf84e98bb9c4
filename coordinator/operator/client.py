"""The operator's commands talk to a running coordinator through its LAN API, each as a role that may do that."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from coordinator.access.passwords import known_password
from coordinator.access.routes import route_of
from sheepfold.config import is_loopback
from sheepfold.tls.connections import CoordinatorHandler
from sheepfold.tls.contexts import client_context
from sheepfold.tls.errors import BadCertificate, PlainRefused

from .errors import NoAnswerFromCoordinator, NotFound, NotYours

if TYPE_CHECKING:
    from coordinator.settings import FarmSettings

#: A coordinator on the LAN answers at once, or something is wrong.
TIMEOUT_S = 10
#: A job of a thousand PCs has thousands of open leases, and the ledger takes the end of each.
CANCEL_TIMEOUT_S = 60


class OperatorClient:
    """Calls the coordinator's LAN API, one method for each of the operator's commands.

    Each raises :class:`~coordinator.access.errors.NoPassword`, or an error of :mod:`coordinator.operator.errors`.
    """

    def __init__(self, settings: FarmSettings) -> None:
        self._url, self._settings = settings.coordinator_url, settings
        _refuse_plain(settings)
        self._opener = _opener(settings)

    def status(self) -> dict[str, Any]:
        """What the farm does right now."""
        return self._call("GET", "/api/status")

    def cancel(self, target: str) -> list[dict[str, Any]]:
        """Blocks a job or a frame (``JOB:FRAME``) and ends its leases; what became of each job of that name."""
        return list(self._call("POST", f"/api/cancel?{_query(target)}", timeout_s=CANCEL_TIMEOUT_S)["cancelled"])

    def unblock(self, target: str) -> list[dict[str, Any]]:
        """Ends the blocks of a job or of a frame (``JOB:FRAME``); returns the blocks that were ended."""
        return list(self._call("POST", f"/api/unblock?{_query(target)}")["unblocked"])

    def ask(self) -> list[dict[str, Any]]:
        """Has the server asked for frames now; one entry a session."""
        return list(self._call("POST", "/api/ask")["sessions"])

    def log(self, job: str, frame: str) -> dict[str, Any]:
        """The log of a frame's last failure: ``path``, ``reason`` and ``text``."""
        return self._call("GET", "/api/log?" + urllib.parse.urlencode({"job": job, "frame": frame}))

    def release(self, name: str) -> bool:
        """Ends a PC's quarantine or pause and forgets its strikes; false when it has none and is not paused."""
        return bool(self._call("POST", f"/api/nodes/{urllib.parse.quote(name, safe='')}/release")["released"])

    def invite(self) -> dict[str, Any]:
        """Another invitation: ``line``, ``fingerprint`` and ``valid_s``."""
        return self._call("POST", "/api/invitations")

    def revoke(self, name: str) -> list[dict[str, Any]]:
        """Turns a PC out of the farm for good; the nodes of that name or id: ``node_id``, ``name``, ``is_cut_off``."""
        return list(self._call("POST", f"/api/nodes/{urllib.parse.quote(name, safe='')}/revoke")["revoked"])

    def redis_url(self) -> str:
        """Where Redis is, with Flower's login; holds a password."""
        return str(self._call("GET", "/api/broker")["redis_url"])

    def _call(self, method: str, path: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  (the address is checked to be http by the settings)
            self._url + path, method=method, headers={"Authorization": f"Bearer {self._password(method, path)}"}
        )
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                raise NotFound(_detail(error)) from None
            if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise NotYours(f"the coordinator at {self._url} says {error.code}: {_detail(error)}") from None
            raise NoAnswerFromCoordinator(
                f"the coordinator at {self._url} says {error.code}: {_detail(error)}"
            ) from None
        except (OSError, ValueError, TypeError, http.client.HTTPException) as error:
            raise NoAnswerFromCoordinator(
                f"no coordinator answers at {self._url} ({error}): does it run, and is SHEEPFOLD_COORDINATOR_URL right?"
            ) from None

    def _password(self, method: str, path: str) -> str:
        """As a header carries it."""
        route = route_of(method, path.partition("?")[0])
        assert route is not None, f"no row is for {method} {path}"
        return known_password(self._settings, route.role).encode().decode("latin-1")


def _refuse_plain(settings: FarmSettings) -> None:
    """Raises PlainRefused where a password would cross the network readable, unless the settings allow it."""
    parts = urllib.parse.urlsplit(settings.coordinator_url)
    if parts.scheme == "http" and not settings.allow_plain and not is_loopback(parts.hostname or ""):
        raise PlainRefused("SHEEPFOLD_COORDINATOR_URL", settings.coordinator_url)


def _opener(settings: FarmSettings) -> urllib.request.OpenerDirector:
    """Believes the farm's authority where it is known, else those that this system believes."""
    # A studio's proxy has no business between us and our own coordinator.
    direct, authority = urllib.request.ProxyHandler({}), settings.farm_ca or settings.state_dir / "tls" / "ca.pem"
    try:
        return urllib.request.build_opener(direct, CoordinatorHandler(client_context(authority.read_bytes())))
    except OSError as error:  # ssl.SSLError is one
        if settings.farm_ca is not None:
            raise BadCertificate(f"SHEEPFOLD_FARM_CA: {authority} cannot be used: {error.strerror or error}") from None
        return urllib.request.build_opener(direct)


def _query(target: str) -> str:
    """``JOB`` or ``JOB:FRAME`` as parameters; of several colons the last one counts."""
    job, colon, frame = target.rpartition(":")
    return urllib.parse.urlencode({"job": job, "frame": frame} if colon else {"job": target})


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return error.reason
