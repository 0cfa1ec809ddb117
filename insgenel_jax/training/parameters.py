"""What a model begins with, and which of its parameters are trained.

Without LoRA all of them are trained, from fresh values or from those of a pretrained
directory. With LoRA only its additions are; the base is the pretrained directory's and
stays as it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from jaxtyping import PRNGKeyArray

from insgenel_jax import models
from insgenel_jax.models import hf, lora
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.training.settings import ConfigError


def init(
    config: ModelConfig, pretrained: str, key: PRNGKeyArray, shardings: dict | None
) -> dict:
    """The parameters that are trained, at their start, born in `shardings`.

    Raises ConfigError for a directory or LoRA targets that do not fit the model.
    """
    if config.lora is not None:
        with _blaming("model.lora.targets"):
            return models.init_lora(config, key, shardings)
    if pretrained:
        return _read(pretrained, config, shardings)
    return models.init_params(config, key, shardings)


def load_frozen(config: ModelConfig, pretrained: str, shardings: dict) -> dict:
    """The parameters that are not trained: the base beneath LoRA, or none."""
    if config.lora is None:
        return {}
    return _read(pretrained, dataclasses.replace(config, lora=None), shardings)


def split(config: ModelConfig, tree: dict) -> tuple[dict, dict]:
    """A tree with a leaf for each parameter -> leaves of those trained, of others."""
    return (tree, {}) if config.lora is None else lora.split(tree)


def _read(pretrained: str, config: ModelConfig, shardings: dict | None) -> dict:
    with _blaming("model.pretrained"):
        return hf.load_params(pretrained, config, shardings)


@contextlib.contextmanager
def _blaming(key: str) -> Iterator[None]:
    """A ValueError is the user's to fix, at this key of the config."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
