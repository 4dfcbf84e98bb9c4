"""A session whose client answers from a script, with a clock that only the test moves."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

from coordinator.upstream.client import ServerClient
from coordinator.upstream.client_identity import ClientIdentity
from coordinator.upstream.errors import ServerSilent
from coordinator.upstream.session import FarmSession
from coordinator.upstream.signing_in import DescribedMachine, SessionServices
from sheepfold.protocol.messages import ComputeMethod, JobAnswer, JobOffer, JobRequest, RendererOffer, UnreadableOffer
from sheepfold.protocol.session_messages import Credentials, Endpoints, Hardware, SignInAnswer, SignInRequest
from sheepfold.protocol.status import JobStatus, SignInStatus

HARDWARE = Hardware(os="linux", bits="64bit", cpu_family="6", cpu_model="1", cpu_model_name="x", cpu_cores=8, ram=2**34)
ENDPOINTS = Endpoints(validate_job="v", request_job="r", download_archive="d", error="e", keepmealive="k", logout="l")
OFFER = JobOffer(
    job_id="1",
    frame="0001",
    path="a.blend",
    use_gpu=False,
    archive_md5="a" * 32,
    revision="0",
    renderer=RendererOffer(md5="b" * 32, command_line=".e .c .f"),
    script="",
)
IDENTITY = ClientIdentity(credentials=Credentials(login="studio", password="s3cret"))
FRAME = JobAnswer(status=JobStatus.OK, offer=OFFER)
SILENCE = ServerSilent("exchange", "http://server/x", "no answer in time")


class NoJitter(random.Random):
    """Jitter that is none: every wait is exactly its middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class ScriptedClient:
    """Stands for the server client: takes its answers from lists, the last one again and again."""

    def __init__(self) -> None:
        self.endpoints: Endpoints | None = None
        self.sign_ins: list[Any] = [SignInStatus.OK]
        self.jobs: list[Any] = [FRAME]
        self.signed_in_with: list[SignInRequest] = []
        self.asked_with: list[JobRequest] = []
        self.logged_out = 0
        self.log_out_fails = False
        self.thawed: list[str] = []
        self.cookie = "one"
        self.public_key: str | None = None
        self.gives_key: str | None = None
        self.speed_test_targets: tuple[str, ...] = ()
        self.network_down = self.network_up = 0
        self.during_sign_in: Callable[[], None] = lambda: None

    def sign_in(self, request: SignInRequest) -> SignInAnswer:
        self.signed_in_with.append(request)
        self.during_sign_in()
        status = self._next(self.sign_ins)
        if status == SignInStatus.OK:
            self.endpoints, self.public_key = ENDPOINTS, self.gives_key
        return SignInAnswer(
            status=status,
            endpoints=self.endpoints if status == SignInStatus.OK else None,
            speed_test_targets=self.speed_test_targets,
        )

    def request_job(self, request: JobRequest) -> JobAnswer:
        self.asked_with.append(request)
        answer = self._next(self.jobs)
        return answer if isinstance(answer, JobAnswer) else JobAnswer(status=answer)

    def log_out(self) -> None:
        self.logged_out += 1
        self.endpoints = None
        if self.log_out_fails:
            raise SILENCE

    def freeze(self) -> str:
        return f"cookie {self.cookie}" if self.endpoints else ""

    def thaw(self, text: str) -> None:
        self.thawed.append(text)
        self.endpoints = ENDPOINTS

    @staticmethod
    def _next(answers: list[Any]) -> Any:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class SessionHarness:
    """A session, its scripted client, its clock and what it remembers."""

    def __init__(
        self,
        *,
        remembered: str | None = None,
        rng: random.Random | None = None,
        identity: ClientIdentity = IDENTITY,
    ) -> None:
        self.returned: list[UnreadableOffer] = []
        self.measured: list[tuple[str, ...]] = []
        self.client = ScriptedClient()
        self.now = 1000.0
        self.kept: list[str] = []
        self.session = FarmSession(
            key="farm:linux/64bit",
            machine=DescribedMachine(hardware=HARDWARE),
            client=cast("ServerClient", self.client),
            identity=identity,
            services=SessionServices(
                return_offer=lambda _key, offer: self.returned.append(offer),
                measure=lambda _client, targets: self.measured.append(targets),
                remember=self.kept.append,
                recall=lambda: remembered,
                clock=lambda: self.now,
                rng=rng or NoJitter(),
            ),
        )

    def ask(self) -> JobAnswer | None:
        return self.session.request_job(ComputeMethod.CPU_ONLY, ["c" * 32])

    @property
    def wait(self) -> float:
        return self.session.waits_until() - self.now
