"""Faults that the lab server commits on request."""

from __future__ import annotations

import pytest
import requests

from tests.support.servers.running_lab import LOGIN, PASSWORD, RunningLab, running_lab


@pytest.mark.parametrize("exchange", ["config", "request-job", "validate-job", "keepmealive", "error"])
def test_a_status_nobody_knows_comes_by_script(lab: RunningLab, exchange, png):
    lab.project()
    client = lab.client()
    lab.post("/api/faults", exchange=exchange, action="status:742")
    calls = {
        "config": client.sign_in,
        "request-job": client.request_job,
        "validate-job": lambda: client.send("100", "0001", png),
        "keepmealive": lambda: client.beat("100", "0001"),
        "error": lambda: client.report_error("100", "0001"),
    }
    assert calls[exchange]() == 742
    assert calls[exchange]() != 742


def test_scripted_faults_do_what_they_say(lab: RunningLab):
    lab.project()
    client = lab.client()
    job, _ = client.next_frame()
    whole = client.download(type="job", job=job, revision="0").content

    def next_is(action):
        lab.post("/api/faults", exchange="download-archive", action=action)
        return client.download(type="job", job=job, revision="0")

    for action in ("drop", "lost", "half"):
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            next_is(action)
    assert next_is("http:503").status_code == 503
    assert b"<html>" in next_is("garbage").content
    twisted = next_is("wrong-md5").content
    assert len(twisted) == len(whole)
    assert twisted != whole
    assert next_is("slow:0.2").elapsed.total_seconds() >= 0.2
    assert client.download(type="job", job=job, revision="0").content == whole


def test_faults_are_off_unless_enabled(tmp_path):
    with running_lab(tmp_path) as lab:
        fault = {"exchange": "config", "action": "drop"}
        answer = requests.post(f"{lab.url}/api/faults", json=fault, auth=(LOGIN, PASSWORD), timeout=10)
        assert answer.status_code == 404
