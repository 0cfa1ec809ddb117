"""Slices of TPUs that are not here: named, refused, compiled for."""

import importlib.util
import json

import pytest

from benchmarks import memory
from insgenel_jax.ahead import programs, slices
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.training import loop
from insgenel_jax.training.config import load
from insgenel_jax.training.generator import generator_task
from insgenel_jax.training.settings import LoopSettings, OptimizerSettings

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the extra tpu"
)


def test_without_libtpu_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr(slices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(slices.SliceError, match=r"pip install insgenel_jax\[tpu\]"):
        slices.slice_devices("v5e:4x8")


@needs_libtpu
@pytest.mark.slow
def test_a_slice_has_its_chips_and_a_mesh_takes_all_of_them():
    devices = slices.slice_devices("v5e:4x8")
    assert len(devices) == 32 and devices[0].device_kind == "TPU v5 lite"
    with pytest.raises(slices.SliceError, match="as v5e:4x8, v5p:2x2x2"):
        slices.slice_devices("v5e:3x7")
    config = ModelConfig(
        "llama", 64, dim=64, layers=2, heads=4, ffn=64, max_positions=8
    )
    task, optimizer = generator_task(config), OptimizerSettings(1e-3)
    with pytest.raises(ValueError, match="expected all 32 devices of 8 processes"):
        loop.make_plan(task, optimizer, LoopSettings(1, fsdp=8), 0, devices)
    with pytest.raises(ValueError, match="divides the 4 of each"):
        sizes = LoopSettings(1, fsdp=4, tensor=8)
        loop.make_plan(task, optimizer, sizes, 0, devices)
    plan = loop.make_plan(task, optimizer, LoopSettings(1, fsdp=32), 0, devices)
    processes = [device.process_index for device in plan.mesh.devices.flat]
    assert processes == sorted(processes)


@needs_libtpu
@pytest.mark.slow
def test_a_7b_step_with_lora_fits_and_uses_splash(tmp_path):
    record = json.dumps(memory.PUBLISHED["LLaMA-7B"])
    (tmp_path / "config.json").write_text(record)
    sets = [f"model.pretrained={tmp_path}", "loop.fsdp=32", "loop.tensor=1"]
    sets += ["loop.data=1", "loop.microbatches=1", "data.batch=96"]
    config = load(str(memory.FILES / "generator_llama.py:7b-lora"), sets)
    found = programs.compile_training(config, slices.slice_devices("v5e:4x8"))
    assert found.fits and found.kernels == ("splash",), found.rows()
    assert found.collectives.get("all-gather", 0) > 0


@needs_libtpu
@pytest.mark.slow
def test_a_call_of_a_7b_fits_eight_chips():
    config = memory.from_hf(memory.PUBLISHED["LLaMA-7B"])
    half = memory.dataclasses.replace(config, dtype="bfloat16", param_dtype="bfloat16")
    found = programs.compile_linking(half, 16, slices.slice_devices("v5e:2x4"))
    assert found.fits and found.kernels == ("xla",), found.rows()
    # what attention and MLP add in each layer is summed over the chips
    assert found.collectives["all-reduce"] >= 2
