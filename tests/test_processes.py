"""Processes of one run: joined or refused, equal to one, and ended together."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from insgenel_jax import processes
from insgenel_jax.processes import Join, JoinError

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"model.dim": 16, "model.layers": 1, "model.heads": 2, "model.ffn": 16}
MESH = {"loop.data": 4, "loop.fsdp": 2}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (Join("off", coordinator="here:1"), "--distributed off: leave out"),
        (Join(coordinator="here"), "expected host:port"),
        (Join(coordinator="here:1", wait=0), "at least a second"),
        (Join("on"), "expected the environment of Cloud TPU, Slurm"),
        (Join(coordinator="here:1", process=0), "or all of --coordinator"),
    ],
)
def test_what_does_not_go_together_is_refused(monkeypatch, how, message):
    def nothing_found(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(processes.jax.distributed, "initialize", nothing_found)
    with pytest.raises(JoinError, match=message):
        processes.join(how)
    processes.join(Join())  # "auto" runs alone then


def test_a_broken_connection_is_told_from_other_errors():
    error = processes.jax.errors.JaxRuntimeError
    assert processes._is_lost(error("INTERNAL: Gloo: Connection closed by peer"))
    assert not processes._is_lost(error("RESOURCE_EXHAUSTED: out of memory"))
    assert not processes._is_lost(ValueError("gloo"))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(prepared, workdir, count, values=()):
    """The processes of one command; each writes what it tells to WORKDIR.NUMBER."""
    settings = {
        "data.documents": prepared / "train",
        "data.kb": prepared / "kb",
        "model.tokenizer": prepared / "generator",
        "data.batch": 8,
        "data.streams": 2,
        "loop.steps": 4,
        "loop.log_steps": 1,
        "loop.checkpoint_steps": 2,
    }
    settings |= SMALL | MESH | dict(values)
    command = [sys.executable, "-m", "insgenel_jax.train"]
    command += ["--config=configs/generator_tiny.py", f"--workdir={workdir}"]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    flags = f"--xla_force_host_platform_device_count={8 // count}"
    port = free_port()
    started = []
    for number in range(count):
        others = [f"--coordinator=localhost:{port}", f"--processes={count}"]
        others += [f"--process-id={number}"]
        with open(f"{workdir}.{number}", "w") as told:
            started.append(
                subprocess.Popen(
                    command + (others if count > 1 else []),
                    cwd=ROOT,
                    env=os.environ | {"XLA_FLAGS": flags},
                    stderr=told,
                )
            )
    return started


def train(prepared, workdir, count, values=()):
    codes = [each.wait(400) for each in start(prepared, workdir, count, values)]
    assert codes == [0] * count, Path(f"{workdir}.0").read_text()[-2000:]
    return losses(workdir)


def losses(workdir):
    with contextlib.suppress(FileNotFoundError):
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        return {r["step"]: r["loss"] for r in map(json.loads, lines) if "loss" in r}
    return {}


@pytest.mark.slow
def test_two_processes_do_what_one_does(prepared, tmp_path):
    """Four devices each against eight; a checkpoint of either goes on in the other."""
    one = train(prepared, tmp_path / "one", 1)
    two = train(prepared, tmp_path / "two", 2)
    assert list(one) == [1, 2, 3, 4]
    assert two == pytest.approx(one, rel=1e-6)
    # the first process alone writes
    written = {path.name for path in (tmp_path / "two").iterdir()}
    assert written == {path.name for path in (tmp_path / "one").iterdir()}
    shutil.copytree(tmp_path / "one", tmp_path / "one then two")
    shutil.copytree(tmp_path / "two", tmp_path / "two then one")
    more = {"loop.steps": 6}
    end = train(prepared, tmp_path / "one", 1, more)
    assert list(end) == [1, 2, 3, 4, 5, 6]
    for name, count in (("one then two", 2), ("two then one", 1)):
        assert train(prepared, tmp_path / name, count, more) == pytest.approx(
            end, rel=1e-6
        )


@pytest.mark.slow
def test_one_of_two_is_killed_and_both_end(prepared, tmp_path):
    workdir = tmp_path / "w"
    values = {"loop.steps": 400}
    started = start(prepared, workdir, 2, values)
    while max(losses(workdir), default=0) < 3:
        assert started[0].poll() is None, (tmp_path / "w.0").read_text()[-2000:]
        time.sleep(0.1)
    started[1].kill()
    assert started[1].wait() == -signal.SIGKILL
    # 87 as a rule; where a connection was just in use, JAX or gloo, by which it
    # connects processes on CPUs, notices first and aborts
    status = started[0].wait(120)
    said = {
        processes.LOST: ("process 0 of 2: another process ended",),
        -signal.SIGABRT: ("another task died", "gloo::EnforceNotMet"),
    }
    told = (tmp_path / "w.0").read_text()
    assert any(message in told for message in said[status])
    # the same command goes on; nothing was lost but what no checkpoint has
    again = start(prepared, workdir, 2, values)
    reached = max(losses(workdir))
    while max(losses(workdir), default=0) <= reached:
        assert again[0].poll() is None, (tmp_path / "w.0").read_text()[-2000:]
        time.sleep(0.1)
    again[0].terminate()  # a scheduler tells one of them; all stop, and save
    assert [each.wait(120) for each in again] == [85, 85]


@pytest.mark.slow
def test_a_coordinator_that_does_not_answer(tmp_path):
    command = [sys.executable, "-m", "insgenel_jax.train", f"--workdir={tmp_path}"]
    command += ["--config=configs/generator_tiny.py", "--wait=2", "--processes=2"]
    command += [f"--coordinator=localhost:{free_port()}", "--process-id=1"]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == processes.WRONG
    assert "process 1 of 2 waited 2 s for the others at localhost" in ended.stderr
