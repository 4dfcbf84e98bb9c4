"""The coordinator at servers that say what nobody here can follow: a real process, a real server."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tests.support.farm.running_farm import RunningFarm, running_farm, wait_for

OURS = ("request-job", "validate-job", "download-archive", "error", "keepmealive", "logout")
#: An offer with its job and frame, and without anything to render it by.
ODD_OFFER = '<jobrequest status="0"><job id="7" frame="0012" extras="x" path="a.blend"/></jobrequest>'


class OddServer:
    """Answers each path with what is set for it; counts what came."""

    def __init__(self, *kinds: str) -> None:
        requests = "".join(f'<request type="{kind}" path="/{kind}"/>' for kind in kinds)
        self.pages = {"/server/config.php": f'<config status="0">{requests}</config>', "/request-job": ODD_OFFER}
        #: Path → the parameters and the body of each request.
        self.seen: dict[str, list[tuple[dict[str, str], str]]] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                owner.seen.setdefault(parts.path, []).append((dict(parse_qsl(parts.query)), body))
                answer = owner.pages.get(parts.path, f'<{parts.path.strip("/")} status="0"/>').encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Silence."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def count(self, path: str) -> int:
        """Requests for a path so far."""
        return len(self.seen.get(path, []))


@contextlib.contextmanager
def farm_at(server: OddServer, folder: Path) -> Iterator[RunningFarm]:
    threading.Thread(target=server.http.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.http.server_port}"
    try:
        with running_farm(folder, environment={"SHEEPFOLD_SERVER_URL": address}) as farm:
            yield farm
    finally:
        server.http.shutdown()
        server.http.server_close()


def test_a_server_of_a_generation_nobody_speaks_is_signed_in_to_once_logged_out_of_and_told(tmp_path: Path) -> None:
    server = OddServer("stream-job", "keepmealive", "logout")
    with farm_at(server, tmp_path) as farm:
        ended = farm.run("coordinator")
    assert ended.returncode == 3, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert "a generation of the protocol that sheepfold does not" in last
    assert "it has no request-job" in last
    assert "it has stream-job instead" in last
    assert (server.count("/server/config.php"), server.count("/logout")) == (1, 1)


def test_an_offer_that_cannot_be_read_is_reported_at_once_and_the_next_question_waits(tmp_path: Path) -> None:
    server = OddServer(*OURS)
    with farm_at(server, tmp_path) as farm:
        farm.start_coordinator(SHEEPFOLD_RETRY_WAIT_S="5")
        farm.start_worker("pc-01")
        wait_for("the frame is given back", lambda: server.count("/error"), 20)
        [(parameters, log)] = server.seen["/error"]
        assert (parameters["job"], parameters["frame"], parameters["extras"]) == ("7", "0012", "x")
        assert "archive_md5" in log
        assert server.count("/request-job") == 1
        wait_for("it asks again", lambda: server.count("/request-job") == 2, 10)
        wait_for("that frame is given back too", lambda: server.count("/error") == 2, 5)
        assert farm.stop("coordinator") == 0
    assert (server.count("/server/config.php"), server.count("/logout")) == (1, 1)
