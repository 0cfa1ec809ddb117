"""Hugging Face model directories: configuration and weights, in and out."""

from insgenel_jax.models.hf.weights import (
    check_tokenizer,
    load_config,
    load_params,
    save_model,
)

__all__ = ["check_tokenizer", "load_config", "load_params", "save_model"]
