"""What session and frame routes share: the paths of the exchanges, the session's cookie, and the form of an answer."""

from __future__ import annotations

from starlette.responses import Response

from sheepfold.protocol.session_messages import Endpoints

COOKIE = "sheepfold_session"
#: Projects cannot be changed once they are submitted, so there is only ever this revision.
REVISION = "0"

#: The request types of every generation; each client passes over those it does not know. The paths are those of the
#: specification's sample, but for the log-out: a client of 2024 escapes the question mark. That ``confirmed``
#: is read is an addition, which others pass over.
ENDPOINTS = Endpoints(
    validate_job="/server/send_frame.php",
    request_job="/server/request_job.php",
    download_archive="/server/download.php",
    download_binary="/server/download_binary.php",
    download_chunk="/server/download_chunk.php",
    error="/server/error.php",
    keepmealive="/server/keepmealive.php",
    logout="/server/logout.php",
    speedtest_answer="/server/speedtest.php",
    reads_confirmed=True,
)
#: The specification's own log-out, with ``mode=logout`` in its query, is answered as well.
SPECIFIED_LOGOUT = "/account.php"
#: Not of the specification: stops or resumes a whole project, for accounts that may manage projects.
PROJECT_PATH = "/server/project"


def xml(body: bytes) -> Response:
    """An answer with a document of the protocol; always HTTP 200, refusals are in the document."""
    return Response(body, media_type="text/xml")
