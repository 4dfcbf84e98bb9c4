"""Sends a session's error reports, the oldest first; of failures a server is told a few at a time.

A report that the server does not take, however often it was tried, is set aside: it stays on disk for a person.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from coordinator.upstream.errors import BadAnswer
from coordinator.upstream.reactions import DEFINITE_AFTER, GIVEN_UP_ALONE
from sheepfold.protocol.messages import ErrorReport
from sheepfold.protocol.status import ErrorStatus, explain

from .error_reports import PendingReport, ReportBox
from .report_rate import ReportRate
from .retries import Failures, RetryTable
from .upload_services import ReportClient, UploadSession, answer_of

log = logging.getLogger(__name__)

#: A server that finds a log too large (HTTP 413) is told this much, from the start: what went wrong.
SHORT_LOG_CHARS = 4_000
TOO_LARGE = 413


class ReportUploads:
    """The error reports of one session, by the ids of their leases. Thread-safe, but for :meth:`next`."""

    def __init__(self, session: UploadSession, reports: ReportBox, retries: RetryTable, rate: ReportRate) -> None:
        self._session, self._reports, self._retries, self._rate = session, reports, retries, rate

    def waiting(self) -> list[str]:
        """Ids of the leases of this session whose report is not at the server yet, oldest first."""
        return self._reports.waiting(self._session.key)

    def next(self, may_go: Callable[[str], bool]) -> str | None:
        """The oldest of those that may go and may be told now; a failure that is returned counts as told."""
        waiting = [lease_id for lease_id in self.waiting() if may_go(lease_id)]
        if waiting and self._reports.is_failure(waiting[0]) and not self._rate.take():
            return next((lease_id for lease_id in waiting if not self._reports.is_failure(lease_id)), None)
        return waiting[0] if waiting else None

    def send(self, lease_id: str) -> str:
        """Tells the server; why it did not take the report, empty where it did or where there is nothing to tell.

        Raises what the exchange raises.
        """
        pending = self._reports.read(lease_id)
        if pending is None:
            return ""
        status = answer_of(self._session, lambda: send_report(self._session.client, pending))
        if status != ErrorStatus.OK:
            return explain(status)
        self._reports.done(lease_id)
        self._settled(lease_id)
        return ""

    def failed(self, lease_id: str, failures: Failures, why: str) -> None:
        """It was tried and not taken, once more."""
        if failures.answers >= DEFINITE_AFTER or failures.alone >= GIVEN_UP_ALONE:
            log.error(
                "the server does not take the error report %s: it is sent no more and stays in the state folder as "
                "reports/%s.untold: %s",
                lease_id,
                lease_id,
                why,
            )
            self._reports.set_aside(lease_id)
            self._settled(lease_id)
        else:
            log.warning("error report %s is sent again in %.0f s: %s", lease_id, failures.wait_s, why)

    def _settled(self, lease_id: str) -> None:
        self._retries.settled(lease_id)
        self._session.job_may_be_there()


def send_report(client: ReportClient, pending: PendingReport) -> int:
    """Tells the server; its status. Raises what the exchange raises."""
    report = ErrorReport(
        job=pending.job,
        frame=pending.frame,
        extras=pending.extras,
        render_time_s=pending.render_time_s,
        memory_used_kb=pending.memory_used_kb,
        type=pending.type,
    )
    try:
        return client.report_error(report, pending.log).status
    except BadAnswer as error:
        if error.code != TOO_LARGE or len(pending.log) <= SHORT_LOG_CHARS:
            raise
    return client.report_error(report, pending.log[:SHORT_LOG_CHARS]).status
