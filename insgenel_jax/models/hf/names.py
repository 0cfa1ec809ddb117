"""Which Hugging Face tensor is which parameter, as data; hf.py reads and writes by it."""

from __future__ import annotations


def _linear(ours: str, theirs: str, inputs: int = 1) -> dict:
    """The rows of a linear map, its bias included."""
    return {
        f"{ours}/kernel": (f"{theirs}.weight", inputs),
        f"{ours}/bias": (f"{theirs}.bias", 0),
    }


def _norm(ours: str, theirs: str) -> dict:
    return {
        f"{ours}/scale": (f"{theirs}.weight", None),
        f"{ours}/bias": (f"{theirs}.bias", None),
    }


_OPT = "model.decoder.layers.{}."
_LLAMA = "model.layers.{}."
_BERT = "encoder.layer.{}."

# Parameter path -> (tensor name, input axes). {} is the layer's number. Hugging Face
# keeps a linear map as [out, in], where ours is [*in, *out] with heads apart: so many of
# our axes are inputs. 0: a bias, its axes made one. None: the same on both sides.
# A config uses those rows whose parameter its model has.
NAMES: dict[str, dict[str, tuple[str, int | None]]] = {
    "opt": {
        "embed/embedding": ("model.decoder.embed_tokens.weight", None),
        "embed_position/embedding": ("model.decoder.embed_positions.weight", None),
        **_linear("project_in", "model.decoder.project_in"),
        **_norm("layers/attention_norm", f"{_OPT}self_attn_layer_norm"),
        **_linear("layers/attention/query", f"{_OPT}self_attn.q_proj"),
        **_linear("layers/attention/key", f"{_OPT}self_attn.k_proj"),
        **_linear("layers/attention/value", f"{_OPT}self_attn.v_proj"),
        **_linear("layers/attention/output", f"{_OPT}self_attn.out_proj", 2),
        **_norm("layers/mlp_norm", f"{_OPT}final_layer_norm"),
        **_linear("layers/mlp/up", f"{_OPT}fc1"),
        **_linear("layers/mlp/down", f"{_OPT}fc2"),
        **_norm("norm", "model.decoder.final_layer_norm"),
        **_linear("project_out", "model.decoder.project_out"),
        "unembed": ("lm_head.weight", None),
    },
    "llama": {
        "embed/embedding": ("model.embed_tokens.weight", None),
        "layers/attention_norm/scale": (f"{_LLAMA}input_layernorm.weight", None),
        **_linear("layers/attention/query", f"{_LLAMA}self_attn.q_proj"),
        **_linear("layers/attention/key", f"{_LLAMA}self_attn.k_proj"),
        **_linear("layers/attention/value", f"{_LLAMA}self_attn.v_proj"),
        **_linear("layers/attention/output", f"{_LLAMA}self_attn.o_proj", 2),
        "layers/attention/query_norm/scale": (f"{_LLAMA}self_attn.q_norm.weight", None),
        "layers/attention/key_norm/scale": (f"{_LLAMA}self_attn.k_norm.weight", None),
        "layers/mlp_norm/scale": (f"{_LLAMA}post_attention_layernorm.weight", None),
        **_linear("layers/mlp/gate", f"{_LLAMA}mlp.gate_proj"),
        **_linear("layers/mlp/up", f"{_LLAMA}mlp.up_proj"),
        **_linear("layers/mlp/down", f"{_LLAMA}mlp.down_proj"),
        "norm/scale": ("model.norm.weight", None),
        "unembed": ("lm_head.weight", None),
    },
    "bert": {
        "embed/embedding": ("embeddings.word_embeddings.weight", None),
        "embed_position/embedding": ("embeddings.position_embeddings.weight", None),
        "embed_type/embedding": ("embeddings.token_type_embeddings.weight", None),
        **_norm("embed_norm", "embeddings.LayerNorm"),
        **_linear("layers/attention/query", f"{_BERT}attention.self.query"),
        **_linear("layers/attention/key", f"{_BERT}attention.self.key"),
        **_linear("layers/attention/value", f"{_BERT}attention.self.value"),
        **_linear("layers/attention/output", f"{_BERT}attention.output.dense", 2),
        **_norm("layers/attention_norm", f"{_BERT}attention.output.LayerNorm"),
        **_linear("layers/mlp/up", f"{_BERT}intermediate.dense"),
        **_linear("layers/mlp/down", f"{_BERT}output.dense"),
        **_norm("layers/mlp_norm", f"{_BERT}output.LayerNorm"),
    },
}
# Tensors that may be there and are nothing to us: buffers, and heads on top.
IGNORED: dict[str, tuple[str, ...]] = {
    "opt": (),
    "llama": ("model.layers.*.self_attn.rotary_emb.inv_freq",),
    "bert": ("pooler.*", "cls.*", "embeddings.position_ids"),
}
# What other releases write (a regular expression) -> what NAMES writes.
SPELLINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "opt": ((r"^decoder\.", "model.decoder."),),  # without the head on top, as below
    "llama": ((r"^(layers|embed_tokens|norm)\.", r"model.\1."),),
    "bert": (
        (r"^bert\.", ""),
        (r"LayerNorm\.gamma$", "LayerNorm.weight"),
        (r"LayerNorm\.beta$", "LayerNorm.bias"),
    ),
}
