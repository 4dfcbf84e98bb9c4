"""Makes the sessions of one account at one server."""

from __future__ import annotations

import functools
import hashlib
import platform
import threading
from collections.abc import Callable

from coordinator.leases.key_value import KeyValueStore
from coordinator.runtime.wakeups import Wakeups
from coordinator.settings import CoordinatorSettings
from sheepfold.protocol.messages import UnreadableOffer
from sheepfold.protocol.session_messages import Credentials, Hardware

from .client import ServerClient
from .client_identity import ClientIdentity
from .exchanges.speed_test import SpeedTests
from .session import FarmSession, SessionSettings
from .signing_in import DescribedMachine, SessionServices
from .uploads.error_reports import ReportBox


class SessionFactory:
    """What all sessions of the account share. Sessions keep what they must remember under ``session:<key>``."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        texts: KeyValueStore,
        reports: ReportBox,
        wakeups: Wakeups,
        farm_id: Callable[[], str],
    ) -> None:
        """``farm_id`` tells this farm from others, before and after a restart; read for each session."""
        self._settings, self._texts, self._reports = settings, texts, reports
        self._wakeups, self._farm_id = wakeups, farm_id
        self._speed_tests = SpeedTests()

    def create(self, key: str, hardware: Hardware) -> FarmSession:
        """A session that goes on where the one of this key was before a restart, and describes this hardware."""
        settings, kept = self._settings, f"session:{key}"
        return FarmSession(
            key=key,
            machine=DescribedMachine(hardware=hardware, hostname=platform.node()),
            client=ServerClient(
                settings.server_url, config_path=settings.config_path, dialect=settings.sign_in_dialect()
            ),
            identity=self._identity_of(key),
            settings=SessionSettings(
                render_time_max_s=settings.render_limit_s,
                no_job_wait_s=settings.no_job_wait_s,
                retry_wait_s=settings.retry_wait_s,
            ),
            services=SessionServices(
                remember=functools.partial(self._texts.put_secret, kept),
                recall=functools.partial(self._texts.get_secret, kept),
                return_offer=self.return_offer,
                measure=self._measure,
            ),
        )

    def return_offer(self, session_key: str, offer: UnreadableOffer) -> None:
        """Tells the server that a frame does not come which was granted in words nobody here can follow."""
        self._reports.put_unreadable(session_key, offer)
        self._wakeups.uploading.set()

    def _identity_of(self, key: str) -> ClientIdentity:
        settings = self._settings
        assert settings.password is not None  # the settings' validator saw to it
        # Another one for each farm and session, the same one after a restart.
        hardware_id = hashlib.sha256(f"{self._farm_id()}/{key}".encode()).hexdigest()[:32]
        return ClientIdentity(
            credentials=Credentials(login=settings.login, password=settings.password.get_secret_value()),
            dialect=settings.sign_in_dialect(),
            version=settings.client_version or "",
            extras=settings.extras,
            hardware_id=hardware_id,
        )

    def _measure(self, client: ServerClient, targets: tuple[str, ...]) -> None:
        """Beside everything else: nobody waits for a speed test."""
        threading.Thread(target=self._speed_tests.run_for, args=(client, targets), daemon=True).start()
