"""A directory with models of ours in; the same in 8 bits, or with fewer tokens, out.

It is a base, a generator or a retriever. An index must be made anew from a retriever
that was made smaller: its vectors are other ones, if only by a little.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from insgenel_jax import artifact, models
from insgenel_jax.models import hf
from insgenel_jax.tokenizer import copy_tokenizer
from insgenel_jax.tokenizer.fewer import keep_pieces, pieces_of

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json")


def write_smaller(
    source: Path,
    out: Path,
    *,
    bits: Literal[8] | None = None,
    texts: Iterable[str] | None = None,
    at_least: int = 1,
) -> None:
    """Write a directory anew, an artifact of the same kind, which names the other one.

    Every model in it is rewritten, everything else is copied. bits: 8 keeps matrices as
    int8 (see models/hf/int8.py). texts: keep only the tokens that come up `at_least` so
    often in them, see `tokenizer.fewer`; for BERT alone.
    Raises ArtifactError where the directory is damaged or is no artifact, ValueError
    where a model or the tokenizer cannot be used.
    """
    kind, version = artifact.read(source).kind, artifact.read(source).version
    manifest = artifact.check(source, kind, version)
    kept = None if texts is None else pieces_of(source, texts, at_least)
    with artifact.create(out, kind, version) as draft:
        leave = shutil.ignore_patterns(artifact.MANIFEST, *_WEIGHTS)
        shutil.copytree(source, draft.path, ignore=leave, dirs_exist_ok=True)
        parameters = 0
        for file in sorted(source.rglob("config.json")):
            model = file.parent.relative_to(source)
            parameters += _write_model(file.parent, draft.path / model, bits, kept)
        if kept is not None:
            copy_tokenizer(source, draft.path)
            keep_pieces(draft.path, kept)
        draft.counts = manifest.counts | {"parameters": parameters}
        draft.made_from = {**manifest.made_from, kind: manifest.identity}


def _write_model(
    source: Path,
    target: Path,
    bits: Literal[8] | None,
    kept: Int[np.ndarray, " N"] | None,
) -> int:
    """Write one model anew; return the number of its parameters.

    kept: the ids of its tokens that stay, in order [all].
    """
    config = hf.load_config(source)
    params = hf.load_params(source, config)
    record = artifact.read_json(source / "config.json")
    special = {key: record[key] for key in record if key.endswith("_token_id")}
    if kept is not None:
        embed = params["embed"] | {"embedding": params["embed"]["embedding"][kept]}
        params = params | {"embed": embed}
        config = dataclasses.replace(config, vocabulary=len(kept))
        new = {old: number for number, old in enumerate(kept.tolist())}
        special = {key: new[old] for key, old in special.items() if old in new}
    hf.save_model(target, config, params, special=special, bits=bits)
    return models.count(params)
