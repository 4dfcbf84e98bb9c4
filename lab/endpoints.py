"""What both desks of the protocol share: where the exchanges are, the session's cookie, and how an answer looks."""

from __future__ import annotations

from starlette.responses import Response

from coordinator.protocol.messages import Endpoints

COOKIE = "sheepfold_session"
#: Projects cannot be changed once they are submitted, so there is only ever this revision.
REVISION = "0"

#: Exactly the paths of the specification's sample; that ``confirmed`` is read is an addition, which others pass over.
ENDPOINTS = Endpoints(
    validate_job="/server/send_frame.php",
    request_job="/server/request_job.php",
    download_archive="/server/download.php",
    error="/server/error.php",
    keepmealive="/server/keepmealive.php",
    logout="/account.php?mode=logout&worker=1",
    reads_confirmed=True,
)


def xml(body: bytes) -> Response:
    """A document of the protocol."""
    return Response(body, media_type="text/xml")
