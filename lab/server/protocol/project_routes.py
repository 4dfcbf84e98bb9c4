"""What a client of ours says about a whole project: stop it, or go on with it.

The specification has no such exchange. It is offered in the configuration answer as the request type
``sheepfold-project``, which clients of other origin pass over, and only to accounts that may manage projects.
"""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import Response

from lab.errors import BadForm, NotNow, UnknownProject
from lab.server.forms import read_form
from lab.server.services import LabServices
from lab.server.store.projects import Project, ProjectStep
from sheepfold.protocol.errors import MalformedMessage
from sheepfold.protocol.messages import ProjectAnswer
from sheepfold.protocol.messages import ProjectStep as Asked
from sheepfold.protocol.reading_requests import read_project_step
from sheepfold.protocol.status import ProjectStatus
from sheepfold.protocol.writing import write_project_answer

from .endpoints import COOKIE, xml

log = logging.getLogger(__name__)


class ProjectRoutes:
    """What operators of a farm ask about projects, by the protocol instead of the JSON API."""

    def __init__(self, services: LabServices) -> None:
        self._services = services

    async def step(self, request: Request) -> Response:
        """Cancel or resume a project, given by number or name."""
        try:
            asked = read_project_step((await read_form(request)).fields)
        except (BadForm, MalformedMessage):
            return Response(status_code=400)
        answer = await self._services.threads.run_in_db_thread(self._step, request.cookies.get(COOKIE), asked)
        return xml(write_project_answer(answer))

    def _step(self, token: str | None, asked: Asked) -> ProjectAnswer:
        session = self._services.sessions.find(token)
        account = self._services.accounts.get(session.login) if session is not None and session.is_alive else None
        if account is None or not account.is_owner:
            return ProjectAnswer(status=ProjectStatus.NOT_ALLOWED)
        project = self._find(asked.job)
        if project is None:
            return ProjectAnswer(status=ProjectStatus.UNKNOWN_PROJECT)
        try:
            self._services.projects.step(project.id, ProjectStep(asked.step))
        except NotNow:
            status = ProjectStatus.NOT_NOW
        else:
            status = ProjectStatus.OK
            log.info("project %d: %s, says %s", project.id, asked.step, account.login)
        return ProjectAnswer(status=status, job=str(project.id), name=project.name)

    def _find(self, job: str) -> Project | None:
        try:
            return self._services.projects.get(job)
        except UnknownProject:
            return self._services.projects.latest_named(job)
