"""Checkpoints: what comes back, what damage is named, what a workdir refuses."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax.artifact import ArtifactError
from insgenel_jax.training import checkpoint
from insgenel_jax.training.settings import ConfigError


def state(step):
    return {"step": jnp.int32(step), "params": jnp.arange(1000.0) + step}


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints of steps 2 and 4, and the best of step 2."""
    with checkpoint.open_checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (2, 4):
            place = checkpoint.Place({"read": step})
            checkpoint.save(checkpoints, step, state(step), place)
    with checkpoint.open_checkpoints(tmp_path / "best", 1) as best:
        checkpoint.save_best(best, 2, state(2), 0.5)
    return tmp_path


def restore(folder):
    place = checkpoint.Place({})
    with checkpoint.open_checkpoints(folder / "checkpoints") as checkpoints:
        found = checkpoint.restore(checkpoints, state(0), place)
    return None if found is None else (int(found["step"]), place.get_state())


def halve(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def largest(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return max(files, key=lambda file: file.stat().st_size)


def remove(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()


def test_the_latest_comes_back(saved, tmp_path):
    assert restore(saved) == (4, {"read": 4})
    assert restore(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("damage", ["arrays", "tree", "data", "all"])
def test_a_damaged_checkpoint_is_named_with_what_to_do(saved, damage):
    folder = saved / "checkpoints" / "4"
    if damage == "arrays":
        halve(largest(folder / "state"))
    elif damage == "tree":
        (folder / "state" / "_METADATA").unlink()
    elif damage == "data":
        halve(next((folder / "data").glob("*.json")))
    else:
        remove(folder)
        folder.mkdir()
    with pytest.raises(ArtifactError) as error:
        restore(saved)
    told = str(error.value)
    assert told.startswith(f"{folder}: this checkpoint is damaged") and len(told) < 500
    assert told.endswith("delete this folder and the run goes on from step 2")
    remove(folder)
    assert restore(saved) == (2, {"read": 2})
    halve(largest(saved / "checkpoints" / "2" / "state"))
    with pytest.raises(ArtifactError, match="goes on from the beginning"):
        restore(saved)


def flip(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_a_flipped_bit_is_found_wherever_it_is(saved):
    """Of any file of a checkpoint; one whose hashes were not noted is loaded."""
    folder = saved / "checkpoints" / "4"
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 3
    for file in files:
        whole = file.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1} if whole else ():
            flip(file, at)
            told = f"{folder}: this checkpoint is damaged.* delete this folder"
            with pytest.raises(ArtifactError, match=told):
                restore(saved)
            file.write_bytes(whole)
    assert restore(saved) == (4, {"read": 4})
    best = largest(saved / "best" / "2" / "params")
    flip(best, best.stat().st_size // 2)
    flipped = pytest.raises(ArtifactError, match="best/2: .* has another sha256")
    with checkpoint.open_checkpoints(saved / "best", 1) as opened, flipped:
        checkpoint.restore_best(opened, state(0))
    for text in ("{", "[]"):
        (saved / checkpoint.HASHES).write_text(text)
        assert restore(saved) == (4, {"read": 4})


def test_a_damaged_best_is_named(saved):
    with checkpoint.open_checkpoints(saved / "best", 1) as best:
        assert checkpoint.best_loss(best) == 0.5
        found = checkpoint.restore_best(best, state(0))
        np.testing.assert_array_equal(found["params"], state(2)["params"])
        halve(largest(saved / "best" / "2" / "params"))
        with pytest.raises(ArtifactError, match="best/2: .* delete this folder"):
            checkpoint.restore_best(best, state(0))
    halve(saved / "best" / "2" / "metrics" / "metrics")
    with (
        pytest.raises(ArtifactError, match="best: .* move this folder away"),
        checkpoint.open_checkpoints(saved / "best", 1),
    ):
        pass
    (saved / "best" / "2" / "metrics" / "metrics").unlink()
    with (
        pytest.raises(ArtifactError, match="best/2: .* delete this folder"),
        checkpoint.open_checkpoints(saved / "best", 1) as best,
    ):
        checkpoint.best_loss(best)


def test_a_workdir_remembers_what_it_was_begun_with(tmp_path):
    file = tmp_path / checkpoint.RECORD
    record = {"seed": 0, "data": {"batch": 4}, "made_from": {"tokenizer": "ab"}}
    checkpoint.check_same_config(file, record)
    assert json.loads(file.read_text()) == record
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    checkpoint.check_same_config(file, record)
    other = record | {"data": {"batch": 8}, "made_from": {"tokenizer": "cd", "kb": "e"}}
    told = r"data.batch: 4 -> 8; made_from.tokenizer: 'ab' -> 'cd'; made_from.kb: None"
    with pytest.raises(ConfigError, match=told):
        checkpoint.check_same_config(file, other)
    for content in (file.read_text()[:9], "[" * 100_000, "\0"):
        file.write_text(content)
        with pytest.raises(ConfigError, match="training.json: not a readable record"):
            checkpoint.check_same_config(file, record)
    file.write_text('{"loop": {"steps": "2"}}')
    with pytest.raises(ConfigError, match="loop.steps: '2' -> 3"):
        checkpoint.check_same_config(file, {"loop": {"steps": 3}})


def test_a_finished_run_may_be_given_more_steps(tmp_path):
    file = tmp_path / checkpoint.RECORD
    record = {"seed": 0, "loop": {"steps": 4, "data": 1}}
    more = {"seed": 0, "loop": {"steps": 6, "data": 1}}
    checkpoint.check_same_config(file, record)
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    with pytest.raises(ConfigError, match="loop.steps: 4 -> 6"):  # not finished
        checkpoint.check_same_config(file, more)
    (tmp_path / "checkpoints" / "4").mkdir()
    with pytest.raises(ConfigError, match="seed: 0 -> 1"):
        checkpoint.check_same_config(file, more | {"seed": 1})
    checkpoint.check_same_config(file, more)
    assert json.loads(file.read_text()) == more
    with pytest.raises(ConfigError, match="loop.steps: 6 -> 4"):
        checkpoint.check_same_config(file, record)


def test_a_workdir_is_new_or_empty_or_of_a_run(tmp_path):
    """A model's config.json stays; the record of an older version gets its new name."""
    workdir = tmp_path / "new" / "workdir"
    for _ in range(2):
        checkpoint.claim_workdir(workdir)
        (workdir / ".hidden").write_text("no matter")
    checkpoint.check_same_config(workdir / checkpoint.RECORD, {"seed": 0})
    (workdir / "config.json").write_text("anything")
    checkpoint.claim_workdir(workdir)
    old = {"task": "generator", "loop": {}, "made_from": {}}
    for name, content in (("old", old), ("model", {"model_type": "opt"}), ("x", [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    checkpoint.claim_workdir(tmp_path / "old")
    assert [p.name for p in (tmp_path / "old").iterdir()] == [checkpoint.RECORD]
    for name in ("model", "x"):
        with pytest.raises(ConfigError, match=f"{name}: .* found config.json"):
            checkpoint.claim_workdir(tmp_path / name)
        assert (tmp_path / name / "config.json").is_file()


@pytest.mark.parametrize("name", ["checkpoints", "best"])
def test_a_first_start_that_failed_may_be_fixed(tmp_path, name):
    file = tmp_path / checkpoint.RECORD
    checkpoint.check_same_config(file, {"seed": 0})
    (tmp_path / name / "2.being-written").mkdir(parents=True)
    checkpoint.check_same_config(file, {"seed": 1})
    assert json.loads(file.read_text()) == {"seed": 1}
    halve(file)
    checkpoint.check_same_config(file, {"seed": 2})
    (tmp_path / name / "2").mkdir()
    with pytest.raises(ConfigError, match="seed: 2 -> 3"):
        checkpoint.check_same_config(file, {"seed": 3})


def test_settings_that_were_added_since_are_those_of_before(tmp_path):
    """A workdir of an older version goes on, unless a new setting is changed."""
    file = tmp_path / checkpoint.RECORD
    old = {"data": {"batch": 4}, "loop": {"steps": 2}}
    checkpoint.check_same_config(file, old)
    (tmp_path / "checkpoints/1").mkdir(parents=True)
    now = {"data": {"batch": 4, "packed": True, "more_instructions": ()}}
    now |= {"loop": {"steps": 2, "epochs": 0.0}}
    checkpoint.check_same_config(file, now)
    changed = now | {"data": now["data"] | {"packed": False}}
    with pytest.raises(ConfigError, match="data.packed: True -> False"):
        checkpoint.check_same_config(file, changed)
