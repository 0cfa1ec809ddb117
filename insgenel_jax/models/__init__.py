"""Models: tokens in, hidden states and logits out.

A ModelConfig says what a model is (config.py); opt.py, llama.py and bert.py compute it;
hf/ reads and writes the directories of Hugging Face.
"""

from insgenel_jax.models import apart, int8
from insgenel_jax.models.cache import (
    CACHE_AXES,
    cache_shardings,
    init_cache,
    move_slots,
)
from insgenel_jax.models.model import (
    AXES,
    abstract_params,
    build,
    count,
    init_lora,
    init_params,
    param_shardings,
    unembed,
)
from insgenel_jax.models.tiles import Tiles

__all__ = [
    "AXES",
    "CACHE_AXES",
    "Tiles",
    "abstract_params",
    "apart",
    "build",
    "cache_shardings",
    "count",
    "init_cache",
    "init_lora",
    "init_params",
    "int8",
    "move_slots",
    "param_shardings",
    "unembed",
]
