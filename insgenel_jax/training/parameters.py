"""What a model begins with, and which of it is trained.

All of it is: fresh, or as a pretrained directory has it. With LoRA its additions alone
are; the base is the pretrained directory's and stays.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from jaxtyping import PRNGKeyArray

from insgenel_jax import models
from insgenel_jax.models import hf, lora
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.training.config import ConfigError


def init(
    config: ModelConfig, pretrained: str, key: PRNGKeyArray, shardings: dict | None
) -> dict:
    """What is trained, at its start, born in `shardings`."""
    if config.lora is not None:
        with _blaming("model.lora.targets"):
            return models.init_lora(config, key, shardings)
    if pretrained:
        return _read(pretrained, config, shardings)
    return models.init_params(config, key, shardings)


def load_frozen(config: ModelConfig, pretrained: str, shardings: dict) -> dict:
    """What is not trained: nothing, or the base beneath LoRA."""
    if config.lora is None:
        return {}
    return _read(pretrained, dataclasses.replace(config, lora=None), shardings)


def split(config: ModelConfig, tree: dict) -> tuple[dict, dict]:
    """A tree with a leaf for each parameter -> those trained, those not."""
    return (tree, {}) if config.lora is None else lora.split(tree)


def _read(pretrained: str, config: ModelConfig, shardings: dict | None) -> dict:
    with _blaming("model.pretrained"):
        return hf.load_params(pretrained, config, shardings)


@contextlib.contextmanager
def _blaming(key: str) -> Iterator[None]:
    """A ValueError is the user's to mend, at this key of the config."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
