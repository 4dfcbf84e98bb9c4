"""The lab server as an ASGI application, and the loop that serves it.

The protocol's exchanges are in ``desk.py`` and ``frame_desk.py``, the JSON and the page in ``api.py``, injected faults
in ``faults.py``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from lab.errors import BadInput
from lab.server.api.routes import add_api
from lab.server.protocol.endpoints import ENDPOINTS, PROJECT_PATH, SPECIFIED_LOGOUT
from lab.server.protocol.frame_routes import FrameDesk
from lab.server.protocol.project_routes import ProjectSteps
from lab.server.protocol.session_routes import Desk
from lab.settings import ServerSettings

from .fault_injection import FaultDesk, Faults
from .header_names import CanonicalHeaders
from .services import LabServices

log = logging.getLogger(__name__)

#: Answers under way may take this long when the server stops; what is left is cut off.
STOP_WITHIN_S = 5
_GET_POST = ["GET", "POST"]


def create_app(settings: ServerSettings, *, clock: Callable[[], float] | None = None) -> ASGIApp:
    """The server as an ASGI application. It opens its store at once and closes it at shutdown.

    ``clock``: see :class:`~lab.server.services.OperatorService`.
    """
    return build(LabServices(settings, clock=clock))


def build(office: LabServices) -> ASGIApp:
    """The application around parts that are there already."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        yield
        office.close()

    app = Starlette(lifespan=lifespan)
    desk, frame_desk = Desk(office), FrameDesk(office)
    app.add_route("/server/config.php", desk.sign_in, _GET_POST)
    app.add_route(ENDPOINTS.request_job, desk.request_job, _GET_POST)
    app.add_route(ENDPOINTS.validate_job, frame_desk.validate, _GET_POST)
    app.add_route(ENDPOINTS.keepmealive, frame_desk.beat, _GET_POST)
    app.add_route(ENDPOINTS.error, frame_desk.report_error, _GET_POST)
    app.add_route(ENDPOINTS.download_archive, desk.download, _GET_POST)
    app.add_route(ENDPOINTS.download_binary, desk.download_binary, _GET_POST)
    app.add_route(ENDPOINTS.download_chunk, desk.download_chunk, _GET_POST)
    app.add_route(ENDPOINTS.speedtest_answer, desk.take_speed_test, _GET_POST)
    app.add_route(ENDPOINTS.logout, desk.log_out, _GET_POST)
    app.add_route(SPECIFIED_LOGOUT, desk.log_out_as_specified, _GET_POST)
    app.add_route(PROJECT_PATH, ProjectSteps(office).step, ["POST"])
    faults = FaultDesk(rate=office.settings.fault_rate, seed=office.settings.fault_seed)
    scripted = office.settings.faults or office.settings.fault_rate > 0
    add_api(app, office, sign_in=desk.sign_in, faults=faults if scripted else None)
    return CanonicalHeaders(Faults(app, faults) if scripted else app)


class Server(uvicorn.Server):
    """uvicorn, stopping on SIGTERM and Ctrl+C with exit code 0; ``on_start`` is told the address."""

    def __init__(self, app: ASGIApp, on_start: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            app,
            # Header names keep their capitals with this one; ``header_names.py`` says how, and writes the date.
            http="httptools",
            date_header=False,
            access_log=False,
            log_config=None,
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=STOP_WITHIN_S,
            timeout_keep_alive=75,
        )
        # The query of a sign-in holds the password. uvicorn's switch only takes the handlers away, and whoever adds
        # one later would turn the access log on again.
        logging.getLogger("uvicorn.access").disabled = True
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets and not self.should_exit:
            self._on_start(address_of(sockets[0]))

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """As uvicorn's, but the signal is not raised once more at the end: being told to stop is no failure."""
        try:
            former = {one: signal.signal(one, self._stop) for one in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: whoever runs us stops us
            former = {}
        try:
            yield
        finally:
            for one, handler in former.items():
                signal.signal(one, handler)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises :class:`BadInput` naming the settings."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches Nagle's algorithm off for sockets that say TCP only; with it on,
    # every answer after the first of a connection comes 40 ms late.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
        return listener
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise BadInput(f"SHEEPFOLD_SERVER_HOST, SHEEPFOLD_SERVER_PORT: {host} port {port}: {reason}") from None


def address_of(listener: socket.socket) -> str:
    """The root URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
