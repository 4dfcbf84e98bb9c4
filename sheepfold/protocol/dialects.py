"""The generations of the protocol: one row for what each of them sends. A new generation is a new row.

What comes *in* is read alike whatever the generation (``reading_answers.py``): an offer says itself how its scene
comes, where its frame goes and whether it is locked. Only what goes *out* differs, and the rows of :data:`DIALECTS`
say how.

Which row is used:

1. The sign-in is written in the row that the operator names (:data:`SPECIFICATION` where none is named): a password is
   not sent twice to find out what a server likes. A server that wants another one answers 101.
2. Its answer names the server's request types. Where the row's own are all there, the row stays; otherwise the newest
   row whose request types are all there takes over (:func:`spoken_with`). Where there is none, the server is refused.

The rows are what clients of 2015-01, 2017-06, 2020-10, 2022-11 and 2024-03 were observed to send, in their order. Two
things are ours: in 2015 the memory is told in bytes, as the specification says, and heartbeats and error reports
always name their frame, because one session of a farm may hold many (the client of 2024 renders one at a time and
leaves the name out; servers pass over what they don't need).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .reading_answers import ENDPOINT_OF_REQUEST
from .session_messages import Endpoints, RamUnit

#: What the specification lists for a sign-in, in its order.
_SPECIFIED_SIGN_IN = (
    "login",
    "password",
    "version",
    "os",
    "bits",
    "cpu_family",
    "cpu_model",
    "cpu_model_name",
    "cpu_cores",
    "ram",
    "extras",
)
_ARCHIVES = ("request-job", "keepmealive", "download-archive")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What one generation sends. Names are the wire's; what has no value is left out."""

    #: The year it was observed; operators name the row by it.
    year: int
    #: The client version that a server of that year takes.
    version: str
    #: Signing in: parameters in a form rather than in the query.
    sign_in_by_form: bool = False
    ram_unit: RamUnit = RamUnit.KILOBYTES
    sign_in: tuple[str, ...]
    #: How the client says that it has no display; ``None``: it doesn't.
    headless: str | None = None
    asking: tuple[str, ...]
    #: How a client without a limit for the time of a render says so; ``None``: it says nothing.
    no_time_limit: int | None = None
    #: Content type of the ``<cache>`` that lists the archives held; ``None``: they are not told.
    held_archives_type: str | None
    beating: tuple[str, ...]
    reporting: tuple[str, ...]
    #: Request types without which a session of this generation can do nothing.
    needed_requests: tuple[str, ...]

    def missing_in(self, endpoints: Endpoints) -> tuple[str, ...]:
        """The request types this generation needs and the server has not."""
        return tuple(kind for kind in self.needed_requests if not getattr(endpoints, ENDPOINT_OF_REQUEST[kind]))

    def picked(self, names: tuple[str, ...], values: Mapping[str, str | int | None]) -> dict[str, str]:
        """Of ``values`` those that this generation sends, in its order; ``None`` is not sent."""
        return {name: str(value) for name in names if (value := values.get(name)) is not None}


SPECIFICATION = Dialect(
    year=2015,
    version="3.3.1762",
    ram_unit=RamUnit.BYTES,
    sign_in=_SPECIFIED_SIGN_IN,
    asking=("computemethod",),
    held_archives_type="application/x-www-form-urlencoded",
    beating=("job", "frame", "extras"),
    reporting=("job", "frame", "extras", "rendertime", "memoryused"),
    needed_requests=(*_ARCHIVES, "validate-job"),
)

DIALECTS: tuple[Dialect, ...] = (
    SPECIFICATION,
    Dialect(
        year=2017,
        version="5.366.2818",
        sign_in=(
            "login", "password", "cpu_family", "cpu_model", "cpu_model_name", "cpu_cores", "os", "ram", "bits",
            "version", "hostname", "extras",
        ),
        asking=("computemethod", "cpu_cores", "ram_max", "rendertime_max", "gpu_model", "gpu_ram"),
        no_time_limit=-1,
        held_archives_type="application/x-www-form-urlencoded",
        beating=("frame", "job", "extras", "rendertime", "remainingtime"),
        reporting=("type", "frame", "job", "render_time", "memoryused", "extras"),
        needed_requests=(*_ARCHIVES, "validate-job"),
    ),
    Dialect(
        year=2020,
        version="6.20294.0",
        sign_in_by_form=True,
        sign_in=(
            "login", "password", "cpu_family", "cpu_model", "cpu_model_name", "cpu_cores", "os", "ram", "bits",
            "version", "hostname", "ui", "extras", "headless",
        ),
        headless="1",
        asking=("computemethod", "cpu_cores", "ram_max", "rendertime_max", "gpu_type", "gpu_model", "gpu_ram"),
        no_time_limit=-1,
        held_archives_type="application/xml; charset=utf-8",
        beating=("frame", "job", "extras", "rendertime", "remainingtime"),
        reporting=("type", "frame", "job", "render_time", "memoryused", "extras"),
        needed_requests=_ARCHIVES,
    ),
    Dialect(
        year=2022,
        version="6.22306.0",
        sign_in_by_form=True,
        sign_in=(
            "login", "password", "cpu_family", "cpu_model", "cpu_model_name", "cpu_cores", "os", "os_version", "ram",
            "bits", "version", "hostname", "ui", "extras", "headless", "hwid",
        ),
        headless="1",
        asking=(
            "computemethod", "network_dl", "network_up", "cpu_cores", "ram_max", "rendertime_max", "gpu_type",
            "gpu_model", "gpu_ram",
        ),
        no_time_limit=-1,
        held_archives_type="application/xml; charset=utf-8",
        beating=("paused", "frame", "job", "extras", "rendertime", "remainingtime"),
        reporting=("type", "frame", "job", "render_time", "memoryused", "extras"),
        needed_requests=(*_ARCHIVES, "speedtest-answer"),
    ),
    Dialect(
        year=2024,
        version="7.24086.0",
        sign_in_by_form=True,
        sign_in=(
            "login", "password", "cpu_family", "cpu_model", "cpu_model_name", "cpu_cores", "os", "os_version", "ram",
            "bits", "version", "hostname", "ui", "extras", "headless", "hwid",
        ),
        headless="true",
        asking=(
            "computemethod", "network_dl", "network_up", "cpu_cores", "ram_max", "rendertime_max", "gpu_type",
            "gpu_model", "gpu_ram",
        ),
        no_time_limit=0,
        held_archives_type=None,
        beating=("paused", "frame", "job", "extras", "rendertime", "remainingtime"),
        reporting=("type", "frame", "job", "render_time", "memoryused", "extras"),
        needed_requests=("request-job", "keepmealive", "download-binary", "download-chunk"),
    ),
)  # fmt: skip


def dialect_of(year: int) -> Dialect:
    """The row of this year; raises ``ValueError`` that names those there are."""
    for dialect in DIALECTS:
        if dialect.year == year:
            return dialect
    raise ValueError(f"is one of {', '.join(str(dialect.year) for dialect in DIALECTS)}")


def spoken_with(endpoints: Endpoints, signed_in_with: Dialect) -> Dialect | None:
    """The row for everything after the sign-in; ``None`` where no row's request types are all there."""
    newest_first = sorted(DIALECTS, key=lambda dialect: -dialect.year)
    return next((row for row in (signed_in_with, *newest_first) if not row.missing_in(endpoints)), None)
