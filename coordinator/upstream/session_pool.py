"""The account's sessions at the server: which ones there are, and whose PCs each of them speaks for.

``farm`` mode holds one session for each platform (os and bits) on the LAN, ``machine`` mode one for each PC. A session
of a platform describes the strongest PC of it that was ever seen, because a server picks renderers and jobs by it.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from coordinator.leases.key_value import KeyValueStore
from coordinator.runtime.wakeups import Wakeups
from coordinator.settings import CoordinatorSettings, SessionMode
from sheepfold.contract.presence import NodeHardware, Presence
from sheepfold.protocol.messages import UnreadableOffer
from sheepfold.protocol.session_messages import Credentials, Hardware

from .client import ServerClient
from .client_identity import ClientIdentity
from .exchanges.speed_test import SpeedTests
from .session import FarmSession, SessionSettings
from .signing_in import DescribedMachine, SessionServices
from .uploads.error_reports import ReportBox


def hardware_for_server(node: NodeHardware) -> Hardware:
    """A node's hardware in the server's words."""
    fields = {name: value for name, value in asdict(node).items() if name != "gpus"}
    return Hardware(**fields)


def platform_of(node: NodeHardware) -> str:
    """``linux/64bit``: what a renderer is built for."""
    return f"{node.os}/{node.bits}"


def _strength(hardware: Hardware) -> tuple[int, int]:
    return hardware.cpu_cores, hardware.ram


class SessionPool(Mapping[str, FarmSession]):
    """All sessions by their key; new ones appear as PCs do. There is none before :meth:`open`."""

    def __init__(self, mode: SessionMode, make_session: Callable[[str, Hardware], FarmSession]) -> None:
        self._mode, self._make = mode, make_session
        self._sessions: dict[str, FarmSession] = {}
        #: Sessions that describe a PC of theirs, rather than the coordinator.
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def open(self, own: NodeHardware, keys: Collection[str] = ()) -> SessionPool:
        """Opens the farm's first session, and those of leases and reports from before a restart; returns itself.

        ``own`` is the coordinator's hardware, ``keys`` those sessions' keys.
        """
        if self._mode is SessionMode.FARM:
            # Signed in before the first PC joins, so that a wrong password is told at once.
            self._open(f"farm:{platform_of(own)}", own)
        for key in sorted(keys):
            self._reopen(key, own)
        return self

    def session_key(self, presence: Presence) -> str:
        """The key of the session that speaks for this PC."""
        if self._mode is SessionMode.MACHINE:
            return f"node:{presence.node_id}"
        return f"farm:{platform_of(presence.hardware)}"

    def assign(self, present: Mapping[str, Presence]) -> dict[str, list[Presence]]:
        """Session key → the PCs it speaks for; sessions that are missing are opened."""
        groups: dict[str, list[Presence]] = {}
        for presence in present.values():
            groups.setdefault(self.session_key(presence), []).append(presence)
        for key, nodes in groups.items():
            strongest = max(nodes, key=lambda node: (node.hardware.cpu_cores, node.hardware.ram))
            session = self._open(key, strongest.hardware)
            seen = hardware_for_server(strongest.hardware)
            if key not in self._seen or _strength(seen) > _strength(session.machine.hardware):
                # Told at the next sign-in.
                machine = DescribedMachine(
                    hardware=seen,
                    hostname=strongest.name,
                    node_id=strongest.node_id,
                    gpus=strongest.hardware.gpus,
                )
                session.describe(machine)
                self._seen.add(key)
        return groups

    def _reopen(self, key: str, own: NodeHardware) -> FarmSession:
        """The session of a lease whose PC may not be back yet."""
        kind, _, platform = key.partition(":")
        if kind == "farm":
            os, _, bits = platform.partition("/")
            own = replace(own, os=os, bits=bits)
        return self._open(key, own)

    def described_node(self, key: str) -> str:
        """Id of the PC that the server takes this session for; empty where that is none of ours."""
        session = self._sessions.get(key)
        return session.described_node if session else ""

    def status(self, present: Mapping[str, Presence]) -> list[dict[str, Any]]:
        """For the status page: one entry a session, called after its PC or platform."""
        names = (
            {self.session_key(node): node.name for node in present.values()}
            if self._mode is SessionMode.MACHINE
            else {}
        )
        return [
            {
                "key": session.key,
                "name": names.get(session.key, session.key.partition(":")[2]),
                "state": session.state.value,
                "notice": session.notice,
            }
            for session in list(self._sessions.values())
        ]

    def _open(self, key: str, hardware: NodeHardware) -> FarmSession:
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = self._make(key, hardware_for_server(hardware))
            return self._sessions[key]

    def __getitem__(self, key: str) -> FarmSession:
        return self._sessions[key]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._sessions))

    def __len__(self) -> int:
        return len(self._sessions)


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
