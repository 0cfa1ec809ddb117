"""The launch scripts: valid shell, a valid JobSet, one command, 85 queued again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

LAUNCH = Path(__file__).resolve().parents[1] / "launch"
VERSION = kubernetes_validate.latest_version()
HOSTS = ("slurm.sbatch", "tpu_pod.sh", "gke_jobset.yaml")
# Of JobSet v1alpha2, what is written here; the job within is validated as Kubernetes'.
JOBSET = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "jobset.x-k8s.io/v1alpha2"},
        "kind": {"const": "JobSet"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["replicatedJobs"],
            "properties": {
                "failurePolicy": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "maxRestarts": {"type": "integer", "minimum": 0},
                        "rules": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["name", "action"],
                                "properties": {
                                    "name": {"type": "string"},
                                    "action": {
                                        "enum": [
                                            "FailJobSet",
                                            "RestartJobSet",
                                            "RestartJobSetAndIgnoreMaxRestarts",
                                        ]
                                    },
                                    "onJobFailureReasons": {
                                        "type": "array",
                                        "items": {
                                            "enum": [
                                                "BackoffLimitExceeded",
                                                "DeadlineExceeded",
                                                "PodFailurePolicy",
                                            ]
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
                "replicatedJobs": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["name", "template"],
                        "properties": {
                            "name": {"type": "string"},
                            "replicas": {"type": "integer", "minimum": 1},
                            "template": {"type": "object", "required": ["spec"]},
                        },
                    },
                },
            },
        },
    },
}


def jobset():
    return yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


@pytest.mark.parametrize("name", sorted(p.name for p in LAUNCH.glob("*.s*")))
def test_shellcheck_has_nothing_to_say(name):
    found = shutil.which("shellcheck", path=Path(sys.executable).parent)
    if found is None:
        pytest.skip("needs shellcheck")
    command = [found, "--exclude=SC1091", name]  # of files that others source
    said = subprocess.run(
        command, cwd=LAUNCH, capture_output=True, text=True, check=False
    )
    assert said.stdout == "" and said.returncode == 0


def test_the_jobset_is_one():
    jsonschema.validate(jobset(), JOBSET)
    for replicated in jobset()["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "slice"}}
        job |= replicated["template"]
        kubernetes_validate.validate(job, VERSION, strict=True)
        job["spec"]["template"]["spec"]["containers"][0]["arguments"] = []
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(job, VERSION, strict=True)


def test_the_ray_cluster_is_one():
    ray = pytest.importorskip("ray")
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    cluster = yaml.safe_load((LAUNCH / "ray_cluster.yaml").read_text())
    jsonschema.validate(cluster, json.loads(schema.read_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"worker": []}, json.loads(schema.read_text()))


def test_the_slice_has_as_many_hosts_and_chips_as_it_says():
    [replicated] = jobset()["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    sides = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    chips = int(sides[0]) * int(sides[1])
    [container] = pod["containers"]
    each = container["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"] == chips / each
    assert f"--set=loop.fsdp={chips}" in container["args"]


@pytest.mark.parametrize("name", HOSTS)
def test_all_call_the_same_command_and_run_again_after_85(name):
    """With a header that says what to change; the shell stands aside for Python."""
    text = (LAUNCH / name).read_text()
    assert "# What to change: " in text and "85" in text
    words = text.replace(",", " ").replace('"', " ").split()
    assert {"python", "-m", "insgenel_jax.train"} <= {w.strip("[]") for w in words}
    assert "--distributed=on" in text
