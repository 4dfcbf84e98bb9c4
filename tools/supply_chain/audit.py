"""Ask the advisory service about every locked version, with pip-audit; say plainly where it cannot be asked.

Exit code 0: every version was looked up and has no known hole. 1: some have, or not all could be looked up; the last
line of each lock says which.
"""

from __future__ import annotations

import re
import subprocess
import sys

from tools.supply_chain.locks import LARGEST, LOCKS, SUPPLY

#: pip-audit ends with the same exit code for holes, a silent service and a lock that it cannot read.
FOUND = re.compile(r"^Found \d+ known vulnerabilit", re.MULTILINE)
#: A mirror that has no advisories answers "not found" for every package, and pip-audit calls that a success.
SKIPPED = "could not be audited"
#: How requests, urllib3 and pip-audit tell that nobody answered.
SILENT = ("ConnectionError", "Could not connect", "Max retries exceeded", "ServiceError", "no answer within", "Timeout")
TIMEOUT_S = 300


def verdict(exit_code: int, said: str) -> str:
    """The line for the operator, from pip-audit's exit code and words."""
    if exit_code == 0 and SKIPPED in said:
        return f"NOT AUDITED: the advisory service knows nothing of {said.count(SKIPPED)} packages (above)"
    if exit_code == 0:
        return "no known hole in the locked versions"
    if FOUND.search(said):
        return "locked versions have known holes (above): allow newer ones in pyproject.toml, then `make lock`"
    if any(word in said for word in SILENT):
        return "NOT AUDITED: the advisory service could not be asked; try again where the network allows it"
    return "NOT AUDITED: pip-audit failed (above)"


def main() -> int:
    """Audits the largest lock, which holds the others, and the tools' own; one at a time: both name some packages."""
    return max([_audit(name) for name in (LARGEST, SUPPLY)])


def _audit(name: str) -> int:
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off"]
    try:
        done = subprocess.run(
            [*command, "-r", str(LOCKS / name)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        code, said = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        code, said = 1, f"no answer within {TIMEOUT_S} s"
    print("\n".join(said.strip().splitlines()[-40:]), flush=True)
    print(f"{name}: {verdict(code, said)}", file=sys.stderr)
    return 1 if code or SKIPPED in said else 0


if __name__ == "__main__":
    sys.exit(main())
