"""Which tensor of Hugging Face is which parameter: tables that weights.py goes by."""

from __future__ import annotations

# Parameter path -> (tensor name, input axes), as explained at NAMES.
Rows = dict[str, tuple[str, int | None]]


def _linear(ours: str, theirs: str, inputs: int = 1) -> Rows:
    """The rows of a linear map and its bias."""
    return {
        f"{ours}/kernel": (f"{theirs}.weight", inputs),
        f"{ours}/bias": (f"{theirs}.bias", 0),
    }


def _norm(ours: str, theirs: str) -> Rows:
    """The rows of a layer norm."""
    return {
        f"{ours}/scale": (f"{theirs}.weight", None),
        f"{ours}/bias": (f"{theirs}.bias", None),
    }


_OPT = "model.decoder.layers.{}."
_LLAMA = "model.layers.{}."
_BERT = "encoder.layer.{}."

# Family -> parameter path -> (tensor name, input axes); {} is the layer's number.
# Hugging Face keeps a linear map as [out, in]; ours is [*in, *out], with an axis of
# heads. "Input axes" counts the axes of *in. 0 marks a bias, which Hugging Face keeps
# flat; None marks a tensor that is the same on both sides.
# A model has some of its family's rows: those whose parameter it has.
NAMES: dict[str, Rows] = {
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
# Tensors that a directory may hold and that are not read: buffers, heads on top.
IGNORED: dict[str, tuple[str, ...]] = {
    "opt": (),
    "llama": ("model.layers.*.self_attn.rotary_emb.inv_freq",),
    "bert": ("pooler.*", "cls.*", "embeddings.position_ids"),
}
# Family -> (regular expression for names in other checkpoints, its replacement), which
# gives the names of NAMES.
SPELLINGS: dict[str, tuple[tuple[str, str], ...]] = {
    # the first of OPT and of LLaMA: as saved without the head on top
    "opt": ((r"^decoder\.", "model.decoder."),),
    "llama": ((r"^(layers|embed_tokens|norm)\.", r"model.\1."),),
    "bert": (
        (r"^bert\.", ""),
        (r"LayerNorm\.gamma$", "LayerNorm.weight"),
        (r"LayerNorm\.beta$", "LayerNorm.bias"),
    ),
}
