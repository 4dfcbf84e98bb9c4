"""Ask the advisory service about every locked version, with pip-audit; say plainly where it cannot be asked.

Exit code 0: no known hole. 1: some, or nobody answered; the last line says which.
"""

from __future__ import annotations

import subprocess
import sys

from tools.locks import EXTRAS, LOCKS, SUPPLY

#: pip-audit reports holes with this exit code; it ends with the same one where the service is silent.
FOUND = "known vulnerabilit"
TIMEOUT_S = 300


def verdict(exit_code: int, said: str) -> str:
    """The line for the operator, from pip-audit's exit code and words."""
    if exit_code == 0:
        return "no known hole in the locked versions"
    if FOUND in said:
        return "locked versions have known holes (above): allow newer ones in pyproject.toml, then `make lock`"
    return "NOT AUDITED: the advisory service could not be asked; try again where the network allows it"


def main() -> int:
    """Audits the largest lock, which holds the others, and the tools' own."""
    files = [word for name in (next(iter(EXTRAS)), SUPPLY) for word in ("-r", str(LOCKS / name))]
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off", *files]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        code, said = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        code, said = 1, f"no answer within {TIMEOUT_S} s"
    print("\n".join(said.strip().splitlines()[-40:]))
    print(f"audit: {verdict(code, said)}", file=sys.stderr)
    return 1 if code else 0


if __name__ == "__main__":
    sys.exit(main())
