import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from insgenel_jax import artifact, train
from insgenel_jax.models import hf
from insgenel_jax.tokenizer import load_tokenizer, load_wordpiece
from insgenel_jax.training import loop

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = ["model.dim=16", "model.layers=1", "model.heads=2", "model.ffn=16"]


def arguments(prepared, task, *others):
    """Config file and --set values of a short run."""
    values = [
        f"data.documents={prepared / 'train'}",
        f"data.kb={prepared / 'kb'}",
        f"data.dev={prepared / 'dev.jsonl'}",
        f"model.tokenizer={prepared / task}",
        "data.batch=4",
        "loop.steps=2",
        *SMALL,
        *others,
    ]
    return str(CONFIGS / f"{task}_tiny.py"), values


def test_the_generator_command_writes_a_model_directory(prepared, tmp_path):
    config, values = arguments(prepared, "generator")
    train.main(config, tmp_path / "w", values)
    manifest = artifact.check(tmp_path / "w" / "model", "generator", 1, verify=True)
    assert set(manifest.made_from) == {
        "training-documents",
        "knowledge-base",
        "tokenizer",
    }
    model = hf.load_config(tmp_path / "w" / "model")
    params = hf.load_params(tmp_path / "w" / "model", model)
    assert np.isfinite(params["embed"]["embedding"]).all()
    settings = json.loads((tmp_path / "w" / "model" / "insgenel.json").read_text())
    assert settings["instruction"] and settings["max_length"] == model.max_positions
    assert load_tokenizer(tmp_path / "w" / "model").size == model.vocabulary
    # the same command again changes nothing; another config is refused
    train.main(config, tmp_path / "w", values)
    assert artifact.identity(tmp_path / "w" / "model") == manifest.identity
    with pytest.raises(SystemExit) as stopped:
        train.main(config, tmp_path / "w", [*values, "loop.steps=3"])
    assert stopped.value.code == 2


def test_the_retriever_command_writes_two_encoders(prepared, tmp_path):
    config, values = arguments(prepared, "retriever", "data.refresh_steps=1")
    train.main(config, tmp_path, values)
    model = tmp_path / "model"
    artifact.check(model, "retriever", 1, verify=True)
    encoders = [
        hf.load_params(model / part, hf.load_config(model / part))
        for part in ("mention", "entity")
    ]
    one, two = (encoder["embed"]["embedding"] for encoder in encoders)
    assert one.shape == two.shape and not np.allclose(one, two)
    settings = json.loads((model / "retriever.json").read_text())
    names = {"window_length", "stride", "window_tokens", "entity_tokens", "pooling"}
    assert names <= set(settings)
    assert load_wordpiece(model).size == one.shape[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (loop.Preempted(3), train.PREEMPTED),
        (loop.NotFinite("step 3"), train.NOT_FINITE),
        (artifact.ArtifactError("damaged"), 2),
    ],
)
def test_exit_codes(prepared, tmp_path, monkeypatch, error, code):
    def fail(config, workdir):
        raise error

    monkeypatch.setattr(train, "run", fail)
    config, values = arguments(prepared, "generator")
    with pytest.raises(SystemExit) as stopped:
        train.main(config, tmp_path, values)
    assert stopped.value.code == code


@pytest.mark.slow
def test_kill_and_sigterm_anywhere_end_in_the_same_model(prepared, tmp_path):
    config, values = arguments(
        prepared, "generator", "loop.checkpoint_steps=5", "loop.log_steps=1"
    )
    values = [v for v in values if not v.startswith("loop.steps")] + ["loop.steps=60"]

    def command(workdir):
        sets = [part for value in values for part in ("--set", value)]
        return [
            *(sys.executable, "-m", "insgenel_jax.train", f"--config={config}"),
            *(f"--workdir={workdir}", *sets),
        ]

    subprocess.run(command(tmp_path / "straight"), check=True, cwd=CONFIGS.parent)
    workdir, codes = tmp_path / "killed", []
    for how, step in ((signal.SIGKILL, 12), (signal.SIGTERM, 25), (signal.SIGKILL, 40)):
        process = subprocess.Popen(command(workdir), cwd=CONFIGS.parent)
        log = workdir / "metrics.jsonl"
        while process.poll() is None and (
            not log.is_file() or f'"step": {step}, "count"' not in log.read_text()
        ):
            time.sleep(0.02)
        os.kill(process.pid, how)
        codes.append(process.wait())
    assert codes == [-signal.SIGKILL, train.PREEMPTED, -signal.SIGKILL]
    subprocess.run(command(workdir), check=True, cwd=CONFIGS.parent)
    one, two = (artifact.read(p / "model") for p in (tmp_path / "straight", workdir))
    assert one.identity == two.identity
