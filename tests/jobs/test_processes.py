"""What each worker gets of a machine and of a cluster; errors that travel."""

import pickle

import pytest

from insgenel_jax.artifact import ArtifactError
from insgenel_jax.jobs import processes
from insgenel_jax.jobs.cluster import share_out
from insgenel_jax.jobs.processes import portable, share
from insgenel_jax.text.formats.rejects import InputError


@pytest.fixture
def machine(monkeypatch):
    """Eight cores; returns what sets the files of devices."""
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: set(range(8)))
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS"):
        monkeypatch.delenv(name, raising=False)

    def devices(pattern, count):
        monkeypatch.setattr(
            processes.glob, "glob", lambda p: ["x"] * (count if p == pattern else 0)
        )

    devices("none", 0)
    return devices


def test_cores_and_accelerators_are_shared_out(machine, monkeypatch):
    assert share(1, 3)["NPROC"] == "2" and share(0, 20)["NPROC"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in share(0, 3)
    machine("/dev/nvidia[0-9]*", 2)
    assert [share(i, 2)["CUDA_VISIBLE_DEVICES"] for i in (0, 1)] == ["0", "1"]
    with pytest.raises(InputError, match="--workers 3: .* GPU, found 2"):
        share(0, 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    assert [share(i, 3)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["3", "5", "7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert share(0, 9)["NPROC"] == "1"
    machine("/dev/vfio/[0-9]*", 4)
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    assert "TPU_VISIBLE_CHIPS" not in share(3, 4)  # devices of another kind
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: name)
    assert share(3, 4)["TPU_VISIBLE_CHIPS"] == "3"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert "TPU_VISIBLE_CHIPS" not in share(3, 9)


def test_actors_of_a_cluster():
    """One for each accelerator, or each core; what one asks for fits on a node."""
    cpus = [{"CPU": 2.0}, {"CPU": 3.0}]
    assert share_out(cpus, None) == ({"num_cpus": 1}, 1, 5)
    assert share_out(cpus, 2) == ({"num_cpus": 2}, 2, 2)
    assert share_out(cpus, 1) == ({"num_cpus": 2}, 2, 1)
    gpus = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}]
    wants = {"num_cpus": 1, "num_gpus": 1}
    assert share_out(gpus, None) == (wants, 4, 8)
    assert share_out(gpus, 2) == (wants, 16, 2) and share_out(gpus, 99)[2] == 8
    (wants, _, count) = share_out([{"CPU": 8.0, "TPU": 4.0}], None)
    assert wants == {"num_cpus": 1, "resources": {"TPU": 1}} and count == 4


@pytest.mark.parametrize(
    "error",
    [InputError("a"), ArtifactError("b"), OSError(28, "full", "file"), OSError("odd")],
)
def test_errors_travel_to_another_process(error):
    sent = pickle.loads(pickle.dumps(portable(error)))
    assert str(error) in str(sent)
    if str(error) != "odd":
        assert type(sent) is type(error)
