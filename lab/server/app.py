"""The lab server as an ASGI application, and the loop that serves it.

The protocol's exchanges are in ``protocol/``, the JSON in ``api/``, the page in ``page/``, injected faults in
``fault_injection.py``.
"""

from __future__ import annotations

import contextlib
import logging
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
from lab.server.protocol.frame_routes import FrameRoutes
from lab.server.protocol.project_routes import ProjectRoutes
from lab.server.protocol.session_routes import SessionRoutes
from sheepfold.serving.listening import listen
from sheepfold.serving.origins import PageGuard
from sheepfold.serving.uvicorn_protocol import guarded_protocol

from .fault_injection import FaultMiddleware, FaultPlan
from .header_names import CanonicalHeaders
from .services import LabServices

log = logging.getLogger(__name__)

#: Answers under way may take this long when the server stops; what is left is cut off.
STOP_WITHIN_S = 5
_GET_POST = ["GET", "POST"]


def build(services: LabServices) -> ASGIApp:
    """The application around services that exist already, which it closes at shutdown."""
    faults = FaultPlan(rate=services.settings.fault_rate, seed=services.settings.fault_seed)
    scripted = services.settings.faults or services.settings.fault_rate > 0
    routes = starlette_routes(services, faults if scripted else None)
    # Of the protocol's exchanges a GET changes as much as a POST.
    guarded = PageGuard(routes, changed_by_reading=("/server/", SPECIFIED_LOGOUT))
    return CanonicalHeaders(FaultMiddleware(guarded, faults) if scripted else guarded)


def starlette_routes(services: LabServices, faults: FaultPlan | None) -> Starlette:
    """Every route, without the layers around them; ``faults``: those that may be scripted."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        yield
        services.close()

    app = Starlette(lifespan=lifespan)
    session_routes, frame_routes = SessionRoutes(services), FrameRoutes(services)
    app.add_route("/server/config.php", session_routes.sign_in, _GET_POST)
    app.add_route(ENDPOINTS.request_job, session_routes.request_job, _GET_POST)
    app.add_route(ENDPOINTS.validate_job, frame_routes.validate, _GET_POST)
    app.add_route(ENDPOINTS.keepmealive, frame_routes.beat, _GET_POST)
    app.add_route(ENDPOINTS.error, frame_routes.report_error, _GET_POST)
    app.add_route(ENDPOINTS.download_archive, session_routes.download, _GET_POST)
    app.add_route(ENDPOINTS.download_binary, session_routes.download_binary, _GET_POST)
    app.add_route(ENDPOINTS.download_chunk, session_routes.download_chunk, _GET_POST)
    app.add_route(ENDPOINTS.speedtest_answer, session_routes.take_speed_test, _GET_POST)
    app.add_route(ENDPOINTS.logout, session_routes.log_out, _GET_POST)
    app.add_route(SPECIFIED_LOGOUT, session_routes.log_out_as_specified, _GET_POST)
    app.add_route(PROJECT_PATH, ProjectRoutes(services).step, ["POST"])
    add_api(app, services, sign_in=session_routes.sign_in, faults=faults)
    return app


class Server(uvicorn.Server):
    """uvicorn, stopping on SIGTERM and Ctrl+C with exit code 0; ``on_start`` is told the address."""

    def __init__(self, app: ASGIApp, on_start: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            app,
            # Header names keep their capitals with this one (httptools); ``header_names.py`` says how, and writes the
            # date.
            http=guarded_protocol(),
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
            former = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: whoever runs us stops us
            former = {}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.should_exit = True


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises :class:`BadInput` naming the settings."""
    try:
        return listen(host, port)
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(f"SHEEPFOLD_SERVER_HOST, SHEEPFOLD_SERVER_PORT: {host} port {port}: {reason}") from None


def address_of(listener: socket.socket) -> str:
    """The root URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
