"""Why a web server of the coordinator's cannot run."""

from __future__ import annotations

from sheepfold.errors import ExitCode, SheepfoldError


class AddressInUse(SheepfoldError):
    """Nothing can be served at this address: the settings that name it are wrong, or another program has it."""

    exit_code = ExitCode.WRONG_SETTING

    def __init__(self, settings: str, host: str, port: int, reason: str) -> None:
        """``settings`` are the names of the settings that the address comes from."""
        self.settings, self.host, self.port, self.reason = settings, host, port, reason
        super().__init__(f"{settings}: cannot listen on {host}:{port}: {reason}")
