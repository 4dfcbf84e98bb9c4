"""The JSON side of the lab server, for people, `sheepfold submit`, the page and tests.

::

    GET  /                                      the page (with login parameters: session creation)
    GET  /healthz                               200 once it serves
    GET  /api/overview                          everything the page shows, without single frames
    GET  /api/projects, /api/projects/ID        projects; one project with its frames
    GET  /api/projects/ID/frames.zip            all accepted pictures
    GET  /api/projects/ID/frames/0001/log       the last error report
    GET  /projects/ID/frames/0001[?thumb=1]     a picture
    POST /api/projects                          multipart: a zip, and name, frames, scene[, compute, width, height,
                                                notes (lines), test_frame]
    POST /api/projects/ID/pause|resume|cancel|retry
    GET  /api/accounting                        the server's own books
    PUT  /api/accounts/LOGIN                    {"password": "…", "may_render": true}
    POST /api/mode                              {"mode": "normal|maintenance|overloaded"}
    POST /api/faults, DELETE /api/faults, POST /api/sessions/expire     only with faults enabled

HTTP basic authentication with the owner's account. Looking needs it too, unless the server is open to look (by
default only when it listens on loopback). Errors are ``{"detail": "one line"}``.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from lab.errors import BadInput, UnknownProject
from lab.frame_range import frame_text
from lab.server.fault_injection import Fault, FaultPlan
from lab.server.forms import read_form
from lab.server.page import render_page
from lab.server.services import LabServices
from lab.server.store.frame_views import FrameState
from lab.server.store.projects import Project, ProjectStep, state_in_words
from lab.settings import Mode

from .auth import Handler, OwnerAuth
from .eta import seconds_left
from .project_upload import receive_project


def add_api(app: Starlette, services: LabServices, *, sign_in: Handler, faults: FaultPlan | None) -> None:
    """Add every route of this file."""
    api = Api(services, sign_in=sign_in, faults=faults)
    auth = OwnerAuth(services)

    def add(path: str, handler: Handler, *methods: str, owner_only: bool = True) -> None:
        app.add_route(path, auth.guarded(handler, owner_only=owner_only), list(methods))

    app.add_route("/", api.root, ["GET", "POST"])
    app.add_route("/healthz", api.healthy, ["GET"])
    add("/api/overview", api.overview, "GET", owner_only=False)
    add("/api/projects", api.projects, "GET", owner_only=False)
    add("/api/projects", api.submit, "POST")
    add("/api/projects/{id}", api.project, "GET", owner_only=False)
    add("/api/projects/{id}/frames.zip", api.pictures, "GET", owner_only=False)
    add("/api/projects/{id}/frames/{frame}/log", api.log, "GET", owner_only=False)
    add("/projects/{id}/frames/{frame}", api.picture, "GET", owner_only=False)
    add("/api/projects/{id}/{step}", api.step, "POST")
    add("/api/accounting", api.accounting, "GET", owner_only=False)
    add("/api/accounts/{login}", api.account, "PUT")
    add("/api/mode", api.mode, "POST")
    if faults is not None:
        add("/api/faults", api.fault, "POST", "DELETE")
        add("/api/sessions/expire", api.expire_sessions, "POST")


class Api:
    """The handlers of the JSON API, one method for each route; who may call is checked before (``auth.py``)."""

    def __init__(self, services: LabServices, *, sign_in: Handler, faults: FaultPlan | None) -> None:
        self._services = services
        self._sign_in = sign_in
        self._faults = faults
        self._show_page = OwnerAuth(services).guarded(render_page, owner_only=False)

    async def root(self, request: Request) -> Response:
        """The page; with login parameters, session creation."""
        if request.method == "POST" or not {"login", "password", "version"}.isdisjoint(request.query_params):
            return await self._sign_in(request)
        return await self._show_page(request)

    async def healthy(self, _request: Request) -> Response:
        """Answers without touching the database: compose waits for it before it starts what needs the server."""
        return JSONResponse({"status": "ok"})

    async def overview(self, _request: Request) -> Response:
        """Projects with counts, sessions, and what is rendered now."""
        return JSONResponse(await self._services.threads.run_in_db_thread(self._overview))

    def _overview(self) -> dict[str, Any]:
        services = self._services
        services.frames.expire()
        now = services.clock()
        names = {project.id: project.name for project in services.projects.all()}
        sessions = [
            {"login": s.login, "platform": s.platform, "cpu": s.cpu, "cores": s.cores, "state": s.state,
             "version": s.version, "seen_s": round(now - s.seen_at), "tests_done": s.tests_done,
             "tests_wanted": s.tests_wanted, "test_render_s": s.test_render_s}
            for s in services.sessions.known()
        ]  # fmt: skip
        rendering = [
            {"project": row.project_id, "name": names.get(row.project_id, ""), "frame": frame_text(row.number),
             "login": row.login, "since_s": max(0, round(now - row.granted_at)),
             "left_s": max(0, round(row.expires_at - now))}
            for row in services.frames.views.leased()
        ]  # fmt: skip
        overview = {"account": services.settings.login, "mode": services.mode, "projects": self._projects()}
        return {**overview, "sessions": sessions, "rendering": rendering}

    async def projects(self, _request: Request) -> Response:
        """All projects with counts of their frames, the newest first."""
        return JSONResponse({"projects": await self._services.threads.run_in_db_thread(self._projects)})

    def _projects(self) -> list[dict[str, Any]]:
        counts = self._services.frames.views.counts()
        return [self._shown(project, counts.get(project.id, {})) for project in self._services.projects.all()]

    def _shown(self, project: Project, counts: dict[str, int]) -> dict[str, Any]:
        plain = ("id", "name", "owner", "state", "width", "height", "created_at")
        shown: dict[str, Any] = {key: getattr(project, key) for key in plain}
        shown |= {"compute": project.compute, "archive_bytes": project.archive_bytes, "scene": project.scene_path}
        shown |= {state.value: counts.get(state.value, 0) for state in FrameState}
        shown["state"] = state_in_words(project.state, shown["accepted"], shown["failed"])
        shown["frames"] = sum(counts.values())
        shown["folder"] = str(self._services.frames.views.folder(project).resolve() / "frames")
        shown["notes"] = project.notes.splitlines()
        shown["changes"] = self._services.projects.changes.get(project.id, 0)
        return shown

    async def project(self, request: Request) -> Response:
        """One project with every frame; 404 for one there is not."""
        return JSONResponse(await self._services.threads.run_in_db_thread(self._project, request.path_params["id"]))

    def _project(self, project_id: str) -> dict[str, Any]:
        self._services.frames.expire()
        project = self._services.projects.get(project_id)
        rows = self._services.frames.views.rows(project)
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.state] = counts.get(row.state, 0) + 1
        listed = [
            {"frame": frame_text(row.number), "state": row.state, "login": row.login, "errors": row.errors,
             "refusals": row.refusals, "render_s": row.render_s, "memory_kb": row.memory_kb, "bytes": row.bytes,
             "expires_at": row.expires_at,
             "file": self._services.frames.views.picture(project, row).name if row.suffix else None}
            for row in rows
        ]  # fmt: skip
        began_at = min((row.granted_at for row in rows if row.granted_at is not None), default=0.0)
        accepted_at = [row.accepted_at for row in rows if row.state == FrameState.ACCEPTED]
        eta_s = seconds_left(project.remaining, accepted_at, began_at, self._services.clock())
        return {**self._shown(project, counts), "eta_s": eta_s, "list": listed}

    async def submit(self, request: Request) -> Response:
        """Takes a project's archive and fields; 201 once it is stored and its frames may be rendered."""
        project = await receive_project(request, self._services)
        shown = await self._services.threads.run_in_db_thread(self._project, str(project.id))
        return JSONResponse({key: value for key, value in shown.items() if key != "list"}, status_code=201)

    async def step(self, request: Request) -> Response:
        """Pauses, resumes, cancels a project or retries its failed frames, as the path's last part says."""
        try:
            step = ProjectStep(request.path_params["step"])
        except ValueError:
            raise BadInput("a project can pause, resume, cancel or retry") from None
        project = await self._services.threads.run_in_db_thread(
            self._services.projects.step, request.path_params["id"], step
        )
        return JSONResponse({"id": project.id, "state": project.state})

    async def picture(self, request: Request) -> Response:
        """An accepted picture, or its thumbnail."""
        path, folder = await self._services.threads.run_in_db_thread(
            self._picture, request.path_params["id"], request.path_params["frame"]
        )
        if not request.query_params.get("thumb"):
            return FileResponse(path)
        thumb = folder / "thumbs" / f"{path.stem}.jpg"
        if not thumb.exists():
            await self._services.threads.run_in_image_thread(self._services.untrusted.make_thumbnail, path, thumb)
        return FileResponse(thumb, headers={"cache-control": "private, max-age=3600"})

    def _picture(self, project_id: str, frame: str) -> tuple[Path, Path]:
        project = self._services.projects.get(project_id)
        row = self._services.frames.views.row(project, frame)
        if row is None or row.state != FrameState.ACCEPTED:
            raise UnknownProject(f"{project_id} frame {frame}")
        return self._services.frames.views.picture(project, row), self._services.frames.views.folder(project)

    async def pictures(self, request: Request) -> Response:
        """All accepted pictures as one zip."""
        name, paths = await self._services.threads.run_in_db_thread(self._picture_paths, request.path_params["id"])
        target = self._services.store.incoming()
        await self._services.threads.run_in_image_thread(_zip, paths, target)
        remove = BackgroundTask(target.unlink, missing_ok=True)
        return FileResponse(target, media_type="application/zip", filename=f"{name}.zip", background=remove)

    def _picture_paths(self, project_id: str) -> tuple[str, list[Path]]:
        project = self._services.projects.get(project_id)
        rows = self._services.frames.views.rows(project)
        paths = [self._services.frames.views.picture(project, row) for row in rows if row.state == FrameState.ACCEPTED]
        return self._services.frames.views.folder(project).name, paths

    async def log(self, request: Request) -> Response:
        """The last error report of a frame."""
        project = self._services.projects.get(request.path_params["id"])
        row = await self._services.threads.run_in_db_thread(
            self._services.frames.views.row, project, request.path_params["frame"]
        )
        path = self._services.frames.views.folder(project) / "logs" / f"{frame_text(row.number)}.log" if row else None
        if path is None or not path.is_file():
            raise UnknownProject(f"{project.id} with a log of this frame")
        return FileResponse(path, media_type="text/plain; charset=utf-8")

    async def accounting(self, _request: Request) -> Response:
        """The server's own books, and the faults that happened."""
        happened = dict(self._faults.happened) if self._faults else {}
        return JSONResponse(
            {**await self._services.threads.run_in_db_thread(self._services.frames.views.totals), "faults": happened}
        )

    async def account(self, request: Request) -> Response:
        """Add an account or change it."""
        login = request.path_params["login"]
        asked = await _json(request)
        password, may_render = asked.get("password"), asked.get("may_render", True)
        if not (password is None or (isinstance(password, str) and password)) or not isinstance(may_render, bool):
            raise BadInput('an account is {"password": "text", "may_render": true or false}')
        owner = login == self._services.settings.login
        put = self._services.accounts.put
        try:
            await self._services.threads.run_in_db_thread(
                put, login[:200], password, may_render=may_render, is_owner=owner
            )
        except KeyError:
            raise BadInput("a new account needs a password") from None
        return JSONResponse({"login": login, "may_render": may_render})

    async def mode(self, request: Request) -> Response:
        """Maintenance (206) and overload (207), or back to normal."""
        try:
            self._services.mode = Mode((await _json(request)).get("mode"))
        except ValueError:
            raise BadInput(f"mode is {', '.join(Mode)}") from None
        return JSONResponse({"mode": self._services.mode})

    async def fault(self, request: Request) -> Response:
        """Script a fault, or set the rate of random ones; DELETE forgets what has not happened."""
        assert self._faults is not None
        if request.method == "DELETE":
            self._faults.clear()
            self._faults.set_rate(0.0)
            return JSONResponse({})
        asked = await _json(request)
        try:
            if "rate" in asked:
                seed = asked.get("seed")
                self._faults.set_rate(min(1.0, max(0.0, float(asked["rate"]))), None if seed is None else int(seed))
            else:
                self._faults.script(Fault(**asked))
        except (TypeError, ValueError):
            raise BadInput('a fault is {"exchange": "request-job", "action": "drop", "count": 1}') from None
        return JSONResponse(asked, status_code=201)

    async def expire_sessions(self, _request: Request) -> Response:
        """Every session is over, as after a long idle time."""
        return JSONResponse(
            {"expired": await self._services.threads.run_in_db_thread(self._services.sessions.expire_all)}
        )


async def _json(request: Request) -> dict[str, Any]:
    try:
        asked: Any = json.loads((await read_form(request)).body)
    except (ValueError, RecursionError):
        raise BadInput("the body is no JSON") from None
    if not isinstance(asked, dict):
        raise BadInput("the body is no JSON object")
    return cast("dict[str, Any]", asked)


def _zip(paths: list[Path], target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in paths:
            archive.write(path, path.name)
