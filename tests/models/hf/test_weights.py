"""Model directories: round trips bit for bit, and how damaged ones are refused."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from insgenel_jax import models, sharding
from insgenel_jax.models.hf import weights as hf
from tests.helpers.tiny import BERT, LLAMA, OPT_350M, WINDOWED, random_params

TIED = dataclasses.replace(LLAMA, tie_embeddings=True)


@pytest.fixture
def saved(tmp_path):
    hf.save_model(tmp_path, LLAMA, random_params(LLAMA))
    return tmp_path


def change(path, **tensors):
    """Replace tensors of a directory; None removes one."""
    held = load_file(path / hf.WEIGHTS) | tensors
    held = {name: tensor for name, tensor in held.items() if tensor is not None}
    save_file(held, path / hf.WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        TIED,
        WINDOWED,
        OPT_350M,
        BERT,
        dataclasses.replace(LLAMA, param_dtype="bfloat16"),
    ],
    ids=["llama", "tied", "windowed", "opt-350m", "bert", "bfloat16"],
)
def test_round_trip(config, tmp_path):
    """Config and every bit of every parameter come back."""
    params = random_params(config)
    hf.save_model(tmp_path, config, params)
    actual = hf.load_config(tmp_path)
    assert dataclasses.replace(actual, param_dtype=config.param_dtype) == config
    loaded = hf.load_params(tmp_path, config)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert {x.dtype for x in jax.tree.leaves(loaded)} == {
        np.dtype(jax.numpy.dtype(config.param_dtype))
    }


@pytest.mark.parametrize("rows", [1, 16])
def test_transposed_by_rows(rows, saved, monkeypatch):
    """A number of rows that divides nothing, and rows of less than a head."""
    monkeypatch.setattr(hf, "TRANSPOSED", rows)
    places = models.param_shardings(LLAMA, sharding.make_mesh(1, 2, 2))
    for shardings in (None, places):
        loaded = hf.load_params(saved, LLAMA, shardings)
        jax.tree.map(np.testing.assert_array_equal, loaded, random_params(LLAMA))


def test_layout_on_disk(saved):
    """[out, in] with the heads after each other, as transformers multiplies them."""
    params, tensors = random_params(LLAMA), load_file(saved / hf.WEIGHTS)
    query = params["layers"]["attention"]["query"]["kernel"][1]  # [D N H]
    on_disk = tensors["model.layers.1.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(on_disk[2 * 6 + 5], query[:, 2, 5])
    output = params["layers"]["attention"]["output"]["kernel"][0]  # [N H D]
    on_disk = tensors["model.layers.0.self_attn.o_proj.weight"]
    np.testing.assert_array_equal(on_disk[7], output[:, :, 7].reshape(-1))
    with (saved / hf.WEIGHTS).open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    assert json.loads(header)["__metadata__"] == {"format": "pt"}


@pytest.mark.parametrize("config", [LLAMA, OPT_350M, BERT], ids=lambda c: c.family)
@pytest.mark.parametrize("mesh", [(2, 2, 2), (1, 4, 2)], ids=str)
def test_into_shardings(config, mesh, tmp_path):
    """Each leaf lies in the sharding asked for, with the same values."""
    params = random_params(config)
    hf.save_model(tmp_path, config, params)
    places = models.param_shardings(config, sharding.make_mesh(*mesh))
    loaded = hf.load_params(tmp_path, config, places)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert jax.tree.map(lambda leaf: leaf.sharding, loaded) == places


def test_into_a_sharding_of_the_head_size(saved):
    """Split along an axis that is not the first of those that the tensor has as one."""
    mesh = sharding.make_mesh(1, 2, 3)
    places = jax.tree.map(
        lambda _: sharding.replicated(mesh), models.abstract_params(LLAMA)
    )
    split = jax.sharding.PartitionSpec(None, "fsdp", None, "tensor")
    place = jax.sharding.NamedSharding(mesh, split)
    places["layers"]["attention"]["query"]["kernel"] = place
    loaded = hf.load_params(saved, LLAMA, places)
    jax.tree.map(np.testing.assert_array_equal, loaded, random_params(LLAMA))


def test_reads_its_own_part_alone(saved, monkeypatch):
    """Only a device's share of a tensor is read from disk."""
    read = []
    whole = hf.open_tensors(saved)

    def watched(path):
        return {
            name: tensor._replace(
                read=lambda index, name=name, tensor=tensor: (
                    read.append((name, part := tensor.read(index))) or part
                )
            )
            for name, tensor in whole.items()
        }

    monkeypatch.setattr(hf, "open_tensors", watched)
    mesh = sharding.make_mesh(1, 2, 2)
    hf.load_params(saved, LLAMA, models.param_shardings(LLAMA, mesh))
    kernels = [part.size for name, part in read if "q_proj" in name]
    assert len(kernels) == 2 * 4  # layers, devices
    assert set(kernels) == {24 * 24 // 4}


def test_cast_while_loading(saved):
    """Float32 on disk, bfloat16 in the config."""
    config = dataclasses.replace(LLAMA, param_dtype="bfloat16")
    loaded = hf.load_params(saved, config)
    expected = random_params(LLAMA)["unembed"].astype(jax.numpy.bfloat16)
    np.testing.assert_array_equal(loaded["unembed"], expected)


def test_everything_wrong_at_once(saved):
    """One error names the missing, the left over and the misshapen."""
    change(
        saved,
        **{
            "model.norm.weight": None,
            "model.layers.1.mlp.up_proj.weight": np.zeros((40, 23), np.float32),
            "model.layers.2.mlp.up_proj.weight": np.zeros((40, 24), np.float32),
            "model.layers.0.self_attn.q_proj.bias": np.zeros(24, np.float32),
        },
    )
    with pytest.raises(ValueError, match="do not fit config.json") as error:
        hf.load_params(saved, LLAMA)
    for part in (
        str(saved),
        "model.norm.weight is missing",
        "model.layers.1.mlp.up_proj.weight has shape (40, 23) instead of (40, 24)",
        "model.layers.2.mlp.up_proj.weight is left over",
        "model.layers.0.self_attn.q_proj.bias is left over",
    ):
        assert part in str(error.value)
    assert str(error.value).count("model.") == 4


def test_quantised(saved):
    """Integers are refused, whatever their shape."""
    norm = np.ones(24, np.int8)
    change(saved, **{"model.norm.weight": norm})
    with pytest.raises(ValueError, match=r"model\.norm\.weight holds I8 instead of fl"):
        hf.load_params(saved, LLAMA)


@pytest.mark.torch
def test_quantised_bin(saved):
    torch = pytest.importorskip("torch")
    held = {n: torch.tensor(t) for n, t in load_file(saved / hf.WEIGHTS).items()}
    (saved / hf.WEIGHTS).unlink()
    held["model.norm.weight"] = held["model.norm.weight"].to(torch.int8)
    torch.save(held, saved / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"model\.norm\.weight holds torch.int8 inst"):
        hf.load_params(saved, LLAMA)


@pytest.mark.parametrize("cut", [1, 1000, -4])
def test_truncated(saved, cut):
    """Cut in the header, in the data, by a few bytes: the error says truncated."""
    file = saved / hf.WEIGHTS
    file.write_bytes(file.read_bytes()[: 7 if cut == 1 else cut])
    with pytest.raises(ValueError, match=r"cannot read model.safetensors.*truncated"):
        hf.load_params(saved, LLAMA)


def test_extras_that_are_known(tmp_path):
    """Buffers, poolers and a tied model's second copy of its embedding are no error."""
    params = random_params(TIED)
    hf.save_model(tmp_path / "tied", TIED, params)
    change(
        tmp_path / "tied",
        **{
            "lm_head.weight": np.array(params["embed"]["embedding"]),
            "model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(3, np.float32),
        },
    )
    loaded = hf.load_params(tmp_path / "tied", TIED)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_older_bert(tmp_path):
    """The files of 2018: names with `bert.`, gamma and beta; heads on top."""
    params = random_params(BERT)
    hf.save_model(tmp_path, BERT, params)
    held = load_file(tmp_path / hf.WEIGHTS)
    older = {
        "bert."
        + re.sub(
            r"(LayerNorm\.)(weight|bias)",
            lambda m: m[1] + {"weight": "gamma", "bias": "beta"}[m[2]],
            name,
        ): tensor
        for name, tensor in held.items()
    }
    extra = dict.fromkeys(
        ("bert.pooler.dense.weight", "cls.predictions.bias"), np.zeros(3, np.float32)
    )
    save_file(older | extra, tmp_path / hf.WEIGHTS)
    loaded = hf.load_params(tmp_path, BERT)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_bases_without_their_head(tmp_path):
    """As OPTModel and LlamaModel save: names with `decoder.` or nothing in front."""
    for config, start in ((OPT_350M, "model."), (TIED, "model.")):
        path, params = tmp_path / config.family, random_params(config)
        hf.save_model(path, config, params)
        held = load_file(path / hf.WEIGHTS)
        save_file(
            {name.removeprefix(start): tensor for name, tensor in held.items()},
            path / hf.WEIGHTS,
        )
        loaded = hf.load_params(path, config)
        jax.tree.map(np.testing.assert_array_equal, loaded, params)


@pytest.mark.parametrize("rows", [16, 40])
def test_two_embeddings_of_a_tied_model(rows, tmp_path, monkeypatch):
    """The config says that they are one, but they differ in the last row."""
    monkeypatch.setattr(hf, "COMPARED", rows)
    hf.save_model(tmp_path, TIED, random_params(TIED))
    other = np.array(random_params(TIED)["embed"]["embedding"])
    other[63, 23] += 1
    change(tmp_path, **{"lm_head.weight": other})
    with pytest.raises(ValueError, match=r"lm_head.weight differs from .*tie_word_emb"):
        hf.load_params(tmp_path, TIED)


def test_saved_in_several_files(tmp_path):
    """No file is above the limit, unless a single tensor is; all are loaded again."""
    params = random_params(LLAMA)
    hf.save_model(tmp_path, LLAMA, params, shard_bytes=5000)
    sizes = {
        file.name: sum(x.nbytes for x in load_file(file).values())
        for file in tmp_path.glob("*.safetensors")
    }
    assert len(sizes) > 5
    assert all(size <= 5000 or size == 64 * 24 * 4 for size in sizes.values())
    index = json.loads((tmp_path / hf.INDEX).read_text())
    assert set(index["weight_map"].values()) == set(sizes)
    assert index["metadata"]["total_size"] == sum(sizes.values())
    loaded = hf.load_params(tmp_path, LLAMA)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    params["norm"]["scale"] = params["norm"]["scale"] + 1
    hf.save_model(tmp_path, LLAMA, params)  # over it, in one file
    loaded = hf.load_params(tmp_path, LLAMA)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


@pytest.mark.torch
def test_generation_stops_where_the_tokenizer_says(tmp_path):
    """transformers takes the special ids from config.json."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    special = {"bos_token_id": 5, "eos_token_id": 7, "pad_token_id": 3}
    hf.save_model(tmp_path, LLAMA, random_params(LLAMA), special=special)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    actual = model.generation_config.to_dict()
    assert {name: actual[name] for name in special} == special


def test_tokenizer_of_another_size(tmp_path):
    """A padded vocabulary is accepted, a token without a row is refused."""
    hf.check_tokenizer(tmp_path, LLAMA, 64)
    hf.check_tokenizer(tmp_path, LLAMA, 60)
    with pytest.raises(ValueError, match=r"tokenizer has 65 ids, .* has 64 rows"):
        hf.check_tokenizer(tmp_path, LLAMA, 65)


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_bin(zipped, tmp_path):
    """pytorch_model.bin in the formats of today and before 2020; a truncated one."""
    torch = pytest.importorskip("torch")
    params = random_params(BERT)
    hf.save_model(tmp_path, BERT, params)
    held = load_file(tmp_path / hf.WEIGHTS)
    (tmp_path / hf.WEIGHTS).unlink()
    tensors = {name: torch.tensor(tensor) for name, tensor in held.items()}
    name = "encoder.layer.0.output.dense.weight"
    tensors[name] = tensors[name].to(torch.bfloat16)
    file = tmp_path / "pytorch_model.bin"
    torch.save(tensors, file, _use_new_zipfile_serialization=zipped)
    loaded = hf.load_params(tmp_path, BERT)
    down = params["layers"]["mlp"]["down"]["kernel"]
    down[0] = down[0].astype(jax.numpy.bfloat16)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cannot read pytorch_model.bin .*truncated"):
        hf.load_params(tmp_path, BERT)


@pytest.mark.torch
def test_bin_runs_no_code(tmp_path):
    """A pickle that calls something when it is read is refused."""
    torch = pytest.importorskip("torch")

    class Call:
        def __reduce__(self):
            return (tmp_path / "called").touch, ()

    torch.save({"weight": Call()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot read pytorch_model.bin"):
        hf.load_params(tmp_path, BERT)
    assert not (tmp_path / "called").exists()


def test_bin_without_torch(tmp_path, monkeypatch):
    """The error says what to do."""
    (tmp_path / "pytorch_model.bin").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="install torch, or save .* as safetensors"):
        hf.load_params(tmp_path, LLAMA)


def test_several_files(saved):
    """A sharded checkpoint is read by its index; a missing file is named."""
    held = load_file(saved / hf.WEIGHTS)
    (saved / hf.WEIGHTS).unlink()
    weight_map = {}
    for number, name in enumerate(sorted(held)):
        weight_map[name] = f"model-0000{number % 2 + 1}-of-00002.safetensors"
    for file in set(weight_map.values()):
        part = {name: held[name] for name in held if weight_map[name] == file}
        save_file(part, saved / file)
    (saved / hf.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    loaded = hf.load_params(saved, LLAMA)
    jax.tree.map(np.testing.assert_array_equal, loaded, random_params(LLAMA))
    (saved / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"cannot read model-00002-of-00002"):
        hf.load_params(saved, LLAMA)
    (saved / hf.INDEX).write_text("{}")
    with pytest.raises(ValueError, match=r"index.json: expected .* 'weight_map'"):
        hf.load_params(saved, LLAMA)


def test_an_index_names_files_beside_it(saved, tmp_path):
    """A name with a directory part would bring weights from elsewhere."""
    (tmp_path / "other").mkdir()
    other = (saved / hf.WEIGHTS).rename(tmp_path / "other" / hf.WEIGHTS)
    names = load_file(other)
    for file in (str(other), f"../other/{hf.WEIGHTS}", "a/../../x", "..", ""):
        index = {"weight_map": dict.fromkeys(names, file)}
        (saved / hf.INDEX).write_text(json.dumps(index))
        with pytest.raises(ValueError, match=r"index.json: expected names of files"):
            hf.load_params(saved, LLAMA)


def test_no_model(tmp_path):
    """An empty folder, and configs that are not the JSON of a model."""
    with pytest.raises(FileNotFoundError, match="expected a model directory"):
        hf.load_config(tmp_path)
    with pytest.raises(FileNotFoundError, match="found no model.safetensors, "):
        hf.load_params(tmp_path, LLAMA)
    for text in ("{", "[1]", '{"model_type": "llama", "vocab_size": "many"}'):
        (tmp_path / hf.CONFIG).write_text(text)
        with pytest.raises(ValueError, match=r"config\.json: "):
            hf.load_config(tmp_path)


def test_parameters_of_another_config(tmp_path):
    """They are refused, and nothing is written."""
    with pytest.raises(ValueError, match=r"unembed: None for \(64, 24\)"):
        hf.save_model(tmp_path, LLAMA, random_params(TIED))
    assert not list(tmp_path.iterdir())
