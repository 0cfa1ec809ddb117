"""The entry point: what it writes, refuses and exits with; killed and started again."""

import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from insgenel_jax import artifact, cli, linker, mini_world, train
from insgenel_jax.evaluation.scoring import make_resolve, same_entity, score
from insgenel_jax.generator import load_generator
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.linker import Linker, Settings
from insgenel_jax.models import hf
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.tokenizer import load_tokenizer, load_wordpiece
from insgenel_jax.training.config import load
from insgenel_jax.training.data.chunks import generator_expand
from insgenel_jax.training.data.lengths import estimate_lengths
from insgenel_jax.training.metrics import NotFinite
from insgenel_jax.training.signals import Preempted
from tests.helpers.marks import slow

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
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
    config, values = arguments(prepared, "generator", "data.word_noise=0.9")
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
    assert set(settings) == {"instruction", "chunk_tokens", "prompt_text"}
    data = load(config, values).data
    kb, bpe = (
        KnowledgeBase.open(prepared / "kb"),
        load_tokenizer(prepared / "generator"),
    )
    # the noise is not measured
    expand = generator_expand(bpe, kb, dataclasses.replace(data, word_noise=0.0))
    assert settings["chunk_tokens"] == estimate_lengths(bpe, expand, data)[0] > 20
    assert model.max_positions == 2048  # of no table: longer texts may be linked too
    assert load_tokenizer(tmp_path / "w" / "model").size == model.vocabulary
    record = json.loads((tmp_path / "w" / "model" / "config.json").read_text())
    for role in ("bos", "eos", "pad"):  # what generation in transformers stops by
        assert record[f"{role}_token_id"] == getattr(bpe, role)
    # the same command again changes nothing
    train.main(config, tmp_path / "w", values)
    assert artifact.identity(tmp_path / "w" / "model") == manifest.identity


@pytest.mark.slow
def test_more_steps_go_on_and_fewer_are_refused(prepared, tmp_path):
    config, values = arguments(prepared, "generator")
    train.main(config, tmp_path / "w", values)
    manifest = artifact.read(tmp_path / "w" / "model")
    train.main(config, tmp_path / "w", [*values, "loop.steps=3"])
    lines = (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 3
    assert artifact.identity(tmp_path / "w" / "model") != manifest.identity
    with pytest.raises(SystemExit) as stopped:
        train.main(config, tmp_path / "w", values)
    assert stopped.value.code == 2


@pytest.mark.slow
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
    sizes = {"window_length", "stride", "window_tokens", "entity_tokens"}
    assert sizes | {"shared", "pooling", "normalise", "temperature"} == set(settings)
    assert load_wordpiece(model).size == one.shape[0]
    record = json.loads((model / "entity" / "config.json").read_text())
    assert record["pad_token_id"] == load_wordpiece(model).pad


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Preempted(3), train.PREEMPTED),
        (NotFinite("step 3"), train.NOT_FINITE),
        (artifact.ArtifactError("damaged"), 2),
    ],
)
def test_exit_codes(prepared, tmp_path, monkeypatch, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr(train.run, "train", fail)
    config, values = arguments(prepared, "generator")
    with pytest.raises(SystemExit) as stopped:
        train.main(config, tmp_path, values)
    assert stopped.value.code == code


def stopped(capsys, config, workdir, values):
    """Exit status and last words of a command that must stop with both."""
    with pytest.raises(SystemExit) as stopping:
        train.main(config, workdir, values)
    return stopping.value.code, " ".join(capsys.readouterr().err.split())


def copy_with(path, target, **changes):
    """The artifact `path` again at `target`, its manifest changed."""
    manifest = artifact.read(path)
    with artifact.create(target, manifest.kind, manifest.version) as draft:
        shutil.copytree(path, draft.path, dirs_exist_ok=True)
        (draft.path / artifact.MANIFEST).unlink()
        draft.counts, draft.made_from = manifest.counts, manifest.made_from
        for name, value in changes.items():
            setattr(draft, name, value)
    return target


def test_an_empty_development_set_is_said_at_once(prepared, tmp_path, capsys):
    (tmp_path / "dev.jsonl").write_text("\n \n")
    dev = f"data.dev={tmp_path / 'dev.jsonl'}"
    config, values = arguments(prepared, "generator", dev)
    code, told = stopped(capsys, config, tmp_path / "w", values)
    assert code == 2 and "dev.jsonl: expected labelled documents" in told
    assert not (tmp_path / "w").exists()


def test_documents_made_for_another_knowledge_base_are_refused(
    prepared, tmp_path, capsys
):
    other = copy_with(prepared / "kb", tmp_path / "kb", made_from={"a": "b"})
    config, values = arguments(prepared, "generator", f"data.kb={other}")
    code, told = stopped(capsys, config, tmp_path / "w", values)
    mine, found = (artifact.identity(p)[:12] for p in (prepared / "kb", other))
    assert code == 2
    assert f"made for the knowledge base {mine}, but" in told and f"is {found};" in told
    assert not (tmp_path / "w").exists()


def test_going_on_with_other_data_is_refused(prepared, tmp_path, capsys):
    paths = {
        "knowledge-base": ("data.kb", prepared / "kb"),
        "training-documents": ("data.documents", prepared / "train"),
        "tokenizer": ("model.tokenizer", prepared / "generator"),
    }
    for name, (_, path) in paths.items():
        copy_with(path, tmp_path / name)
    files = [f"{key}={tmp_path / name}" for name, (key, _) in paths.items()]
    config, values = arguments(prepared, "generator", *files, "loop.steps=1")
    train.main(config, tmp_path / "w", values)
    made_from = json.loads((tmp_path / "w/training.json").read_text())["made_from"]
    assert made_from == artifact.read(tmp_path / "w/model").made_from
    for role in paths:
        before = artifact.identity(tmp_path / role)
        assert made_from[role] == before
        copy_with(tmp_path / role, tmp_path / role, counts={"changed": 1})
        if role == "knowledge-base":  # and documents that fit it
            documents = tmp_path / "training-documents"
            kb = {"knowledge-base": artifact.identity(tmp_path / role)}
            copy_with(documents, documents, made_from=kb)
        code, told = stopped(capsys, config, tmp_path / "w", values)
        assert code == 2 and "training.json: this workdir was begun with other" in told
        assert f"made_from.{role}: '{before[:20]}" in told
        for name, (_, path) in paths.items():
            copy_with(path, tmp_path / name)


@pytest.mark.parametrize("task", ["generator", slow("retriever")])
def test_bad_development_lines_are_kept_counted_and_shown(
    prepared, tmp_path, capsys, task
):
    lines = (prepared / "dev.jsonl").read_text().splitlines()
    dev = tmp_path / "dev.jsonl"
    dev.write_text("\n".join([lines[0], '{"id": "torn', *lines[1:]]) + "\n")
    config, values = arguments(prepared, task, f"data.dev={dev}", "loop.steps=1")
    code, told = stopped(capsys, config, tmp_path / "w", values)
    assert code == cli.REJECTED == 3
    assert "1 rejected, see" in told and "dev documents: 8" in told
    [reject] = (tmp_path / "w" / "rejects.jsonl").read_text().splitlines()
    assert json.loads(reject)["line"] == 2
    assert artifact.check(tmp_path / "w" / "model", task, 1)


WRONG = {
    "data.documents=/nowhere": "/nowhere: expected an artifact directory",
    "data.documents={kb}": "/kb: expected a 'training-documents'",
    "data.kb=/nowhere": "/nowhere: expected an artifact directory",
    "data.kb={train}": "/train: expected a 'knowledge-base'",
    "data.dev=/nowhere.jsonl": "/nowhere.jsonl: expected a file, found nothing",
    "data.dev={kb}": "/kb: expected a file, found a directory",
    "data.dev=/dev/null": "/dev/null: expected labelled documents",
    "data.dev={empty}": "empty.jsonl: expected labelled documents",
    "model.tokenizer=/nowhere": "/nowhere: no such directory",
    "model.tokenizer={kb}": "/kb",
    "model.tokenizer={torn}": "/torn/tokenizer.json",
    "model.heads=3": "heads = 3 does not divide dim = 16",
    "model.dtype=float": "dtype is 'float'",
    "loop.steps=0": "loop.steps must be at least 1",
    "loop.tensor=16": "mesh 1 x 1 x 16: needs 16 devices, found 8",
    "loop.tensor=8": "mesh axis tensor = 8 does not divide heads",
    "seed=-1": "Seed must be an integer",
}
OF_GENERATOR = {
    "data.max_length=5": "data.max_length = 5 leaves no room",
    "model.tokenizer={retriever}": "/retriever",
}
OF_RETRIEVER = {"model.tokenizer={generator}": "expected a WordPiece tokenizer"}


@pytest.mark.parametrize(
    ("task", "wrong", "message"),
    [
        *(("generator", *pair) for pair in {**WRONG, **OF_GENERATOR}.items()),
        *(("retriever", *pair) for pair in {**WRONG, **OF_RETRIEVER}.items()),
    ],
)
def test_what_the_user_has_to_fix_is_said_in_one_line(
    prepared, tmp_path, capsys, task, wrong, message
):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "tokenizer.json").write_text('{"version"')
    names = ("kb", "train", "generator", "retriever")
    paths = {name: prepared / name for name in names}
    paths |= {"empty": tmp_path / "empty.jsonl", "torn": tmp_path / "torn"}
    wrong = [wrong.format(**paths)]
    if "max_length" in wrong[0]:
        wrong.append("data.scored=0")
    config, values = arguments(prepared, task, *wrong)
    code, told = stopped(capsys, config, tmp_path / "w", values)
    assert code == 2 and message in told and "Traceback" not in told


def measured(workdir):
    """The lines of a run's metrics, without what the clock says."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    timed = {"tokens/s", "header"}
    lines = [{k: v for k, v in line.items() if k not in timed} for line in lines]
    return [line for line in lines if len(line) > 1]


def often_saved(prepared, task):
    """A command that trains 60 steps in a folder, with a checkpoint every 5."""
    often = ["loop.checkpoint_steps=5", "loop.log_steps=1", "loop.evaluate_steps=20"]
    config, values = arguments(prepared, task, *often)
    values = [v for v in values if not v.startswith("loop.steps")] + ["loop.steps=60"]
    if task == "retriever":
        values += ["data.refresh_steps=8", "data.golds=12", "data.negatives=8"]
    sets = [part for value in values for part in ("--set", value)]
    train = [sys.executable, "-m", "insgenel_jax.train", f"--config={config}"]
    return lambda workdir: [*train, f"--workdir={workdir}", *sets]


def wait_for(process, workdir, step):
    """Until a run has noted a step, or has ended."""
    log = workdir / "metrics.jsonl"
    while process.poll() is None and (
        not log.is_file() or f'"step": {step}, "count"' not in log.read_text()
    ):
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["generator", "retriever"])
def test_kill_and_sigterm_anywhere_end_in_the_same_model(prepared, tmp_path, task):
    """Five kills and a SIGTERM, at random steps of some epochs: the same bits.

    The generator's rows are packed; the retriever is killed amid rounds of negatives
    that it mined.
    """
    command = often_saved(prepared, task)
    subprocess.run(command(tmp_path / "straight"), check=True, cwd=CONFIGS.parent)
    # one in each eight steps, so that each start gets further than the last
    rng = random.Random(0)
    steps = [8 * i + rng.randrange(8) for i in range(1, 7)]
    workdir, codes = tmp_path / "killed", []
    for step in steps:
        how = signal.SIGTERM if step == steps[2] else signal.SIGKILL
        process = subprocess.Popen(command(workdir), cwd=CONFIGS.parent)
        wait_for(process, workdir, step)
        os.kill(process.pid, how)
        codes.append(process.wait())
    assert codes.count(-signal.SIGKILL) == 5 and codes[2] == train.PREEMPTED
    subprocess.run(command(workdir), check=True, cwd=CONFIGS.parent)
    one, two = (artifact.read(p / "model") for p in (tmp_path / "straight", workdir))
    assert one.identity == two.identity
    assert measured(tmp_path / "straight") == measured(workdir)


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_no_checkpoint(prepared, tmp_path):
    """Files that cannot grow stand for it. The run says so, and goes on later."""
    command, workdir = often_saved(prepared, "generator"), tmp_path / "filled"
    process = subprocess.Popen(
        command(workdir), cwd=CONFIGS.parent, stderr=subprocess.PIPE, text=True
    )
    wait_for(process, workdir, 22)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_000, 1_000))
    _, told = process.communicate()
    assert process.returncode == 2, told
    assert "error: " in told and "File too large" in told
    subprocess.run(command(workdir), check=True, cwd=CONFIGS.parent)
    steps = [line["step"] for line in measured(workdir) if "count" in line]
    assert steps == list(range(1, 61))
    subprocess.run(command(tmp_path / "straight"), check=True, cwd=CONFIGS.parent)
    one, two = (artifact.read(p / "model") for p in (tmp_path / "straight", workdir))
    assert one.identity == two.identity


def test_the_links_of_the_development_documents_decide(
    prepared, linker_path, tmp_path, monkeypatch
):
    opened = []

    class Perfect(Linker):  # by step 2; at other steps it links nothing
        def __call__(self, texts):
            opened.append((self.kb, self.settings))
            gold = read_documents(prepared / "dev.jsonl", Rejects())
            return [
                dataclasses.replace(d, mentions=d.mentions if len(opened) == 2 else ())
                for d in gold
            ]

    monkeypatch.setattr(linker, "Linker", Perfect)
    values = ["loop.best=F1", "loop.evaluate_steps=1", "loop.steps=3"]
    values += [f"data.dev_linker={linker_path}"]
    config, values = arguments(prepared, "generator", *values)
    train.main(config, tmp_path, values)
    log = [json.loads(s) for s in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    measured = [line["evaluation"] for line in log if "evaluation" in line]
    assert [m["F1"] for m in measured] == [0, 1, 0] and "loss" in measured[0]
    assert [p.name for p in (tmp_path / "best").glob("[0-9]*")] == ["2"]
    assert (
        "step 2, which had the highest F1" in (tmp_path / "model/README.md").read_text()
    )
    kb, settings = opened[0]
    assert settings.system == "insgenel-r" and len(kb) == len(mini_world.entities())


@pytest.mark.slow
def test_links_are_scored_with_the_knowledge_base_alone(prepared, tmp_path):
    config, values = arguments(prepared, "generator", "loop.best=F1")
    settings = load(config, values)
    train.train(settings, tmp_path, True, None)
    log = (tmp_path / "metrics.jsonl").read_text()
    # what the last evaluation said is what a linker of the model that was written makes
    kb = KnowledgeBase.open(prepared / "kb")
    made = Linker(
        load_generator(tmp_path / "model"), kb, None, None, Settings("insgenel")
    )
    gold = list(read_documents(prepared / "dev.jsonl", Rejects()))
    same = same_entity(make_resolve({}, kb))
    linked = made([Document(d.id, d.text, d.title) for d in gold])
    assert f'"F1": {score(gold, linked, same=same).micro.f1}' in log
