"""A lab server over real HTTP in a thread, and a client that knows nothing but the specification."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import OpenImageIO as oiio
import requests

from lab.server.app import Server, build, open_listener
from lab.server.services import LabServices
from lab.settings import ServerSettings
from lab.submit.client import LabClient, Submitted

LOGIN, PASSWORD = "anna", "counting sheep"
HARDWARE = {
    "os": "linux", "bits": "64bit", "cpu_family": "6", "cpu_model": "85", "cpu_model_name": "Test CPU",
    "cpu_cores": "8", "ram": "17179869184",
}  # fmt: skip


class RunningLab:
    """The server's address, its clock, and its parts."""

    def __init__(self, folder: Path, settings: ServerSettings) -> None:
        self.folder = folder
        self.now = 1_700_000_000.0
        self.services = LabServices(settings, clock=lambda: self.now)
        self.url = ""
        self.owner: LabClient

    def client(self, login: str = LOGIN, password: str = PASSWORD, **changed: str) -> Client:
        """A client that has signed in."""
        client = Client(self.url)
        status = client.sign_in(login=login, password=password, **changed)
        assert status == 0, status
        return client

    def project(self, frames: str = "1-3", **fields: str) -> Submitted:
        archive = self.folder / "project.zip"
        with zipfile.ZipFile(archive, "w") as writing:
            writing.writestr("scene/a.blend", "BLENDER")
        return self.owner.submit(archive, {"name": "shot", "frames": frames, "scene": "scene/a.blend", **fields})

    def post(self, path: str, **asked: Any) -> requests.Response:
        answer = requests.post(self.url + path, json=asked, auth=(LOGIN, PASSWORD), timeout=10)
        answer.raise_for_status()
        return answer


class Client:
    """Plain requests, and what the specification says about them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = requests.Session()
        self.paths: dict[str, str] = {}
        self.answer: ElementTree.Element

    def sign_in(self, path: str = "/server/config.php", **changed: str | None) -> int:
        fields: dict[str, str | None] = {"login": LOGIN, "password": PASSWORD, "version": "3.3.1762", **HARDWARE}
        return self._read(self.http.get(self.url + path, params={**fields, **changed}, timeout=10), "config")

    def request_job(self, method: int = 1, held: tuple[str, ...] = ()) -> int:
        body = "".join(f'<file md5="{md5}"/>' for md5 in held)
        url, query = self.url + self.paths["request-job"], {"computemethod": method}
        answer = self.http.post(url, params=query, data=f"<cache>{body}</cache>", timeout=10)
        return self._read(answer, "jobrequest")

    @property
    def job(self) -> dict[str, str]:
        """The job that was granted last."""
        found = self.answer.find("job")
        assert found is not None
        return found.attrib

    def next_frame(self) -> tuple[str, str]:
        assert self.request_job() == 0
        return self.job["id"], self.job["frame"]

    def send(self, job: str, frame: str, picture: bytes, /, *, as_form: bool = False, **changed: str) -> int:
        fields = {"job": job, "frame": frame, "rendertime": "7", "revision": "0", "extras": "", **changed}
        where: dict[str, Any] = {"data": fields} if as_form else {"params": fields}
        url = self.url + self.paths["validate-job"]
        return self._read(
            self.http.post(url, files={"file": ("0001.png", picture)}, timeout=30, **where), "jobvalidate"
        )

    def beat(self, job: str, frame: str) -> int:
        url, fields = self.url + self.paths["keepmealive"], {"job": job, "frame": frame, "extras": ""}
        return self._read(self.http.get(url, params=fields, timeout=10), "keepmealive")

    def report_error(self, job: str, frame: str, log: str = "boom") -> int:
        url, fields = self.url + self.paths["error"], {"job": job, "frame": frame, "extras": "", "render_time": "3"}
        return self._read(self.http.post(url, params=fields, files={"file": ("log.txt", log)}, timeout=10), "error")

    def download(self, **fields: str) -> requests.Response:
        return self.http.get(self.url + self.paths["download-archive"], params=fields, timeout=10)

    def log_out(self) -> int:
        return self.http.get(self.url + self.paths["logout"], timeout=10).status_code

    def _read(self, answer: requests.Response, root: str) -> int:
        assert answer.status_code == 200, answer.text[:200]
        assert answer.headers["content-type"].startswith("text/xml")
        self.answer = ElementTree.fromstring(answer.content)
        assert self.answer.tag == root
        for request in self.answer.iter("request"):
            self.paths[request.attrib["type"]] = request.attrib["path"]
        return int(self.answer.attrib["status"])


def picture(
    folder: Path, *, width: int = 32, height: int = 18, colour: tuple[float, ...] = (0.5, 0.2, 0.1, 1)
) -> bytes:
    """A PNG of one colour."""
    path = folder / "made.png"
    image = oiio.ImageBuf(oiio.ImageSpec(width, height, 4, "uint8"))
    oiio.ImageBufAlgo.fill(image, colour)
    assert image.write(str(path))
    return path.read_bytes()


@contextmanager
def running_lab(folder: Path, **settings: Any) -> Iterator[RunningLab]:
    """A server on a free port, stopped at the end."""
    settings = {"login": LOGIN, "password": PASSWORD, "server_dir": folder / "server", **settings}
    lab = RunningLab(folder, ServerSettings(**settings))
    up = threading.Event()
    listener = open_listener("127.0.0.1", 0)

    def started(url: str) -> None:
        lab.url = url
        up.set()

    server = Server(build(lab.services), on_start=started)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert up.wait(20), "the lab server did not start"
        lab.owner = LabClient(lab.url, lab.services.settings.login, PASSWORD)
        yield lab
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
