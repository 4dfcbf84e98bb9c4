"""What the lab server does for clients that it does not know: little."""

from __future__ import annotations

import requests

from sheepfold.serving.guesses import FREE_GUESSES
from tests.support.servers.running_lab import HARDWARE, LOGIN, PASSWORD, Client, RunningLab


def test_an_error_report_without_a_session_is_written_nowhere(lab: RunningLab, monkeypatch, tmp_path) -> None:
    """16 MB of log by whoever can connect filled the disk before anybody looked at the session."""
    monkeypatch.setattr(lab.services.store, "incoming", lambda: tmp_path / "no such folder" / "report")
    body = {"file": ("log.txt", b"x" * 8_000_000)}
    answer = requests.post(f"{lab.url}/server/error.php", params={"job": "1", "frame": "1"}, files=body, timeout=30)
    assert answer.status_code == 200, "it would have been written, and could not be"
    assert 'status="0"' not in answer.text


def test_a_known_clients_report_is_still_kept(lab: RunningLab) -> None:
    lab.project(frames="1")
    client = lab.client()
    job, frame = client.next_frame()
    assert client.report_error(job, frame, "x" * 2_000_000 + "the end") == 0
    log = requests.get(f"{lab.url}/api/projects/{job}/frames/{frame}/log", auth=(LOGIN, PASSWORD), timeout=10)
    assert log.text.endswith("the end")


def test_guesses_at_a_login_are_slowed_down_but_not_for_who_was_known_before(lab: RunningLab) -> None:
    def overview(password: str, login: str = LOGIN) -> int:
        return requests.post(
            f"{lab.url}/api/mode", json={"mode": "normal"}, auth=(login, password), timeout=10
        ).status_code

    assert overview(PASSWORD) == 200
    answers = [overview(f"guess {number}") for number in range(FREE_GUESSES + 3)]
    assert answers[:FREE_GUESSES] == [401] * FREE_GUESSES
    assert answers[-1] == 429
    assert overview(PASSWORD) == 200, "its password was proven lately"
    assert overview("guess", "ben") == 401, "another login has done nothing"


def test_a_guesser_at_the_protocol_is_told_to_come_later_and_not_that_it_may_never_come(lab: RunningLab) -> None:
    for number in range(FREE_GUESSES + 1):
        Client(lab.url).sign_in(login="carl", password=f"guess {number}")
    fields = {"login": "carl", "password": "x", "version": "3.3.1762", **HARDWARE}
    answer = requests.get(f"{lab.url}/server/config.php", params=fields, timeout=10)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
