"""A base and the LoRA that was trained on it in; the generator or retriever out.

The LoRA is a directory that training writes, WORKDIR/lora, an artifact:

    insgenel.json     lora.json lora.safetensors                    of a generator
    retriever.json    mention/ entity/ (or shared/), those in each  of a retriever

Its manifest names the identities of the base ("pretrained") and of the directory that
the tokenizer is from. The result is what training wrote as WORKDIR/model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from insgenel_jax import artifact
from insgenel_jax import generator as generators
from insgenel_jax.generator import Generator, read_generator_settings, save_generator
from insgenel_jax.models import hf, lora
from insgenel_jax.retrieval import retriever as retrievers
from insgenel_jax.retrieval.retriever import (
    Retriever,
    encoder_names,
    read_retriever_settings,
    save_retriever,
)
from insgenel_jax.tokenizer import load_tokenizer, load_wordpiece


def kind_of(additions: Path) -> str:
    """What a LoRA directory makes with its base: a "generator" or a "retriever".

    Raises ArtifactError where it is damaged, no LoRA, or lacks the settings.
    """
    artifact.check(additions, lora.KIND, lora.VERSION, verify=True)
    for module in generators, retrievers:
        if (additions / module.SETTINGS).is_file():
            return module.KIND
    raise artifact.ArtifactError(
        f"{additions}: expected {generators.SETTINGS} or {retrievers.SETTINGS}, found "
        "neither; an older version wrote it: copy the one in WORKDIR/model to it"
    )


def merge(base: Path, additions: Path, out: Path, also: Collection[str] = ()) -> None:
    """Write the generator or the retriever that a base and a LoRA directory make.

    also: identities that the base has beside its own, such as that of the directory it
    is a copy of. Raises ArtifactError where the LoRA is damaged or was trained on
    another base or tokenizer, ValueError where its shapes do not fit.
    """
    kind, made_from = kind_of(additions), artifact.read(additions).made_from
    identities = {artifact.identity(base), *also}
    for role in ("pretrained", "tokenizer"):
        if (found := made_from.get(role)) not in identities:
            expected = " or ".join(sorted(name[:12] for name in identities))
            raise artifact.ArtifactError(
                f"{additions}: expected a LoRA whose {role} model is this base, "
                f"{expected}, found {str(found)[:12]}; give the base that it was "
                "trained on, made in the same way (the dtype counts)"
            )
    write = _merge_generator if kind == generators.KIND else _merge_retriever
    write(base, additions, out, made_from)


def write_lora_in(source: Path, out: Path, dtype: str) -> None:
    """Write a LoRA directory anew with its weights in another dtype.

    It keeps what it says it was made from, and names the other one. Raises
    ArtifactError or ValueError where that one is damaged.
    """
    manifest = artifact.check(source, lora.KIND, lora.VERSION, verify=True)
    with artifact.create(out, lora.KIND, lora.VERSION) as draft:
        for file in sorted(source.rglob(lora.SETTINGS)):
            settings, leaves = lora.read(file.parent)
            part = file.parent.relative_to(source)
            lora.save(draft.path / part, settings, leaves, dtype)
        for module in generators, retrievers:
            if (source / module.SETTINGS).is_file():
                text = (source / module.SETTINGS).read_text(encoding="utf-8")
                (draft.path / module.SETTINGS).write_text(text, encoding="utf-8")
        draft.made_from = {**manifest.made_from, lora.KIND: manifest.identity}


def _merge_generator(
    base: Path, additions: Path, out: Path, made_from: dict[str, str]
) -> None:
    config = hf.load_config(base)
    settings = read_generator_settings(additions)
    params = _merged(hf.load_params(base, config), additions)
    generator = Generator(config, params, load_tokenizer(base), *settings)
    save_generator(generator, out, tokenizer=base, made_from=made_from)


def _merge_retriever(
    base: Path, additions: Path, out: Path, made_from: dict[str, str]
) -> None:
    sizes, vectors, shared = read_retriever_settings(additions)
    config = dataclasses.replace(hf.load_config(base), **vectors)
    params, names = hf.load_params(base, config), encoder_names(shared)
    retriever = Retriever(
        configs=dict.fromkeys(names, config),
        params={name: _merged(params, additions / name) for name in names},
        tokenizer=load_wordpiece(base),
        **sizes,
    )
    save_retriever(retriever, out, tokenizer=base, made_from=made_from)


def _merged(params: dict, additions: Path) -> dict:
    """A base's parameters with the LoRA in one folder added."""
    settings, leaves = lora.load(additions, params)
    return lora.merge(settings, lora.join(params, leaves))
