"""What each process of a lab run finds in its environment: addresses, credentials, folders. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOGIN = "lab"
#: Seconds; with this, a heartbeat comes every minute.
MAX_PERIOD_S = 120


@dataclass(frozen=True, kw_only=True)
class FarmEnvironment:
    """Addresses and credentials of one run; nothing of it is ever an argument of a process."""

    folder: Path
    server_url: str
    coordinator_url: str
    password: str
    farm_token: str
    blender: str

    @property
    def viewer_password_file(self) -> Path:
        """Where the coordinator keeps the password with which its page is looked at."""
        return self.folder / "coordinator" / "viewer-password"

    def server(self) -> dict[str, str]:
        return {
            **self.account(),
            "SHEEPFOLD_SERVER_HOST": "127.0.0.1",
            "SHEEPFOLD_SERVER_PORT": self.server_url.rpartition(":")[2],
            "SHEEPFOLD_SERVER_DIR": str(self.folder / "server"),
            "SHEEPFOLD_MAX_PERIOD_S": str(MAX_PERIOD_S),
            "SHEEPFOLD_BLENDER": self.blender,
        }

    def coordinator(self) -> dict[str, str]:
        return {
            **self.account(),
            "SHEEPFOLD_FARM_TOKEN": self.farm_token,
            "SHEEPFOLD_STATE_DIR": str(self.folder / "coordinator"),
            "SHEEPFOLD_HOST": "127.0.0.1",
            "SHEEPFOLD_PORT": self.coordinator_url.rpartition(":")[2],
            "SHEEPFOLD_PUBLIC_URL": self.coordinator_url,
            "SHEEPFOLD_RETRY_WAIT_S": "1",
            "SHEEPFOLD_NO_JOB_WAIT_S": "2",
        }

    def worker(self, name: str, cores: int | None) -> dict[str, str]:
        return {
            "SHEEPFOLD_COORDINATOR_URL": self.coordinator_url,
            "SHEEPFOLD_FARM_TOKEN": self.farm_token,
            "SHEEPFOLD_NODE_NAME": name,
            "SHEEPFOLD_WORK_DIR": str(self.folder / name),
            "SHEEPFOLD_SLOTS": "1",
            # The best there is on this machine, and root where the person is: the worker's log tells both.
            "SHEEPFOLD_SANDBOX": "preferred",
            "SHEEPFOLD_ALLOW_ROOT": "1",
            "SHEEPFOLD_BLENDER": self.blender,
            **({"SHEEPFOLD_CORES": str(cores)} if cores else {}),
        }

    def operator(self) -> dict[str, str]:
        """What `sheepfold status` and the other commands of an operator need: the passwords are in the state folder."""
        return {
            "SHEEPFOLD_COORDINATOR_URL": self.coordinator_url,
            "SHEEPFOLD_STATE_DIR": str(self.folder / "coordinator"),
        }

    def account(self) -> dict[str, str]:
        return {
            "SHEEPFOLD_SERVER_URL": self.server_url,
            "SHEEPFOLD_LOGIN": LOGIN,
            "SHEEPFOLD_PASSWORD": self.password,
        }
