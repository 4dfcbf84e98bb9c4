"""`sheepfold submit`: send a packed scene to a server, streamed however large it is."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import requests

from lab.errors import ServerRefused

CONNECT_TIMEOUT_S = 10
#: The server reads the whole zip once more before it answers.
READ_TIMEOUT_S = 600
_MAX_ANSWER = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A project as the server took it."""

    id: int
    name: str
    frames: int


class LabClient:
    """The JSON side of a lab server, as its owner. The password shows up nowhere."""

    def __init__(self, root_url: str, login: str, password: str) -> None:
        self._root = root_url.rstrip("/")
        self._session = requests.Session()
        encoded = base64.b64encode(f"{login}:{password}".encode()).decode("ascii")
        self._session.headers["authorization"] = f"Basic {encoded}"
        # A .netrc or a proxy of the environment must not answer for a server on the LAN.
        self._session.trust_env = False

    def submit(self, archive: Path, fields: Mapping[str, str]) -> Submitted:
        """A new project of this zip; raises :class:`ServerRefused`."""
        with archive.open("rb") as file:
            body = _StreamedForm(fields, file, archive.stat().st_size)
            answer = self._call("POST", "/api/projects", data=body, headers={"content-type": body.content_type})
        return Submitted(id=int(answer["id"]), name=str(answer["name"]), frames=int(answer["frames"]))

    def project(self, project_id: int) -> dict[str, Any]:
        """A project with its frames; raises :class:`ServerRefused`."""
        return self._call("GET", f"/api/projects/{project_id}")

    def projects(self) -> list[dict[str, Any]]:
        """Without their frames, the newest first; raises :class:`ServerRefused`."""
        return self._call("GET", "/api/projects")["projects"]

    def error_log(self, project_id: int, frame: str) -> str:
        """The last error report of a frame; empty where there is none."""
        try:
            path = f"{self._root}/api/projects/{project_id}/frames/{frame}/log"
            answer = self._session.get(path, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S))
        except requests.RequestException:
            return ""
        return answer.text if answer.ok else ""

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        try:
            answer = self._session.request(method, self._root + path, timeout=timeout, **more)
            body: Any = answer.json() if len(answer.content) <= _MAX_ANSWER else {}
        except requests.JSONDecodeError:
            raise ServerRefused(f"{self._root} is no sheepfold lab server") from None
        except requests.RequestException as error:
            raise ServerRefused(f"{self._root} does not answer ({type(error).__name__})") from None
        if not isinstance(body, dict):
            raise ServerRefused(f"{self._root} is no sheepfold lab server")
        answered = cast("dict[str, Any]", body)
        if not answer.ok:
            reason = str(answered.get("detail", "no reason given"))[:500]
            raise ServerRefused(f"{self._root} refuses: {reason}", answer.status_code)
        return answered


class _StreamedForm:
    """A multipart body with one file, read as it is sent. Its length is known, so nothing is chunked."""

    def __init__(self, fields: Mapping[str, str], file: IO[bytes], size: int) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        head = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        head.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="archive"; filename="project.zip"\r\n'
            "Content-Type: application/zip\r\n\r\n"
        )
        self._before = "".join(head).encode()
        self._file = file
        self._after = f"\r\n--{boundary}--\r\n".encode()
        self._length = len(self._before) + size + len(self._after)

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the body."""
        if self._before:
            piece = self._before if size < 0 else self._before[:size]
            self._before = self._before[len(piece) :]
            return piece
        piece = self._file.read(size)
        if piece:
            return piece
        piece = self._after if size < 0 else self._after[:size]
        self._after = self._after[len(piece) :]
        return piece
