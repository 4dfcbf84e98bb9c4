"""A service that is silent is not taken for a clean answer."""

from __future__ import annotations

import pytest

from tools.supply_chain import audit


@pytest.mark.parametrize(
    ("exit_code", "said", "line"),
    [
        (0, "No known vulnerabilities found", "no known hole"),
        (0, "six  Dependency not found on PyPI and could not be audited: six (1.17.0)", "NOT AUDITED"),
        (1, "Found 2 known vulnerabilities in 1 package", "known holes"),
        (1, "Found 1 known vulnerability in 1 package", "known holes"),
        (1, "ERROR:pip_audit._cli:package x has duplicate requirements", "pip-audit failed"),
        (1, "ConnectionError: name or service not known", "could not be asked"),
    ],
)
def test_the_last_line_says_what_became_of_it(exit_code: int, said: str, line: str) -> None:
    assert line in audit.verdict(exit_code, said)
