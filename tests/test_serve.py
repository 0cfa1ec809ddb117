"""The entry point: what it refuses; and a process that drains when it is told to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from insgenel_jax import serve
from insgenel_jax.linker import Linker
from insgenel_jax.text.document import document_to_json

ROOT = Path(__file__).resolve().parents[1]
TEXT = "We saw Michael Jordan in Paris."


def run(*arguments):
    app = typer.Typer()
    app.command()(serve.main)
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--queue", "0"), "--queue: expected at least 1, found 0"),
        (("--seconds", "nan"), "--seconds: expected at least 0, found nan"),
        (("--set", "threshold=2"), "threshold: expected at most 1"),
        (("--set", "beams=3"), "beams: no effect"),
        (("--port", "70000"), "--port"),
    ],
)
def test_bad_arguments_are_named(linker_path, arguments, reason):
    result = run(linker_path, *arguments)
    assert result.exit_code == 2 and reason in result.stderr


def test_an_address_that_is_taken(linker_path):
    with serve.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = run(linker_path, "--port", port)
    assert result.exit_code == 2
    assert f"--port {port}: expected an address to listen at" in result.stderr


def test_a_missing_linker_and_missing_libraries(linker_path, monkeypatch):
    assert "nowhere" in run("nowhere").stderr
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run(linker_path)
    assert result.exit_code == 2
    assert 'pip install "insgenel_jax[serve]"' in result.stderr


@pytest.fixture
def process(linker_path):
    command = [sys.executable, "-m", "insgenel_jax.serve", str(linker_path)]
    command += ["--port", "0", "--no-warm", "--seconds", "300"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    yield process
    process.kill()
    process.wait()


@pytest.mark.slow
def test_sigterm_under_load_answers_what_was_accepted(process, linker_path):
    for line in process.stderr:
        if found := re.search(r"(http://127\.0\.0\.1:\d+)", line):
            break
    url = found[1]
    expected = document_to_json(Linker.from_pretrained(linker_path)(TEXT))["mentions"]
    places = [(m["start"], m["end"], m["entity"]) for m in expected]
    answers, stopped = [], threading.Event()

    def ask():
        with httpx2.Client(base_url=url, timeout=300, trust_env=False) as client:
            while True:
                try:
                    answer = client.post("/link", json={"text": TEXT})
                except httpx2.HTTPError:  # it listens no more
                    assert stopped.is_set()
                    return
                answers.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    while len(answers) < 50:
        assert process.poll() is None
    stopped.set()
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    answered, begun = re.search(r"answered (\d+) of (\d+) requests", errors).groups()
    assert answered == begun == str(len(answers))
    for answer in answers:
        assert answer.status_code in (200, 503)
        if answer.status_code == 200:
            found = json.loads(answer.text)["documents"][0]["mentions"]
            assert [(m["start"], m["end"], m["entity"]) for m in found] == places
