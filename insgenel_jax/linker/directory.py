"""The linker directory: put together from its parts, and checked when it is opened.

    linker.json  generator/  kb/  and, for INSGENEL-R,  retriever/  index/

titles/ is added where the setting titles = "all" first needs it, see linker.titles.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insgenel_jax import artifact
from insgenel_jax.linker.settings import make_settings
from insgenel_jax.retrieval.index import Index, open_index
from insgenel_jax.retrieval.retriever import Retriever

VERSION = 1
FILE = "linker.json"
BESIDE = ("titles",)  # artifacts in it that its manifest does not list


def assemble(
    path: str | os.PathLike[str],
    *,
    generator: str | os.PathLike[str],
    kb: str | os.PathLike[str],
    retriever: str | os.PathLike[str] | None = None,
    index: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    card: str = "",
) -> None:
    """Put a linker directory together from its parts, by hard links where possible.

    card: what else is to be known of it, in Markdown.

    Raises ArtifactError where the index was not made from this knowledge base and this
    retriever, ValueError for an unknown setting or a bad value.
    """
    given = {"generator": generator, "kb": kb, "retriever": retriever, "index": index}
    parts = {name: Path(part) for name, part in given.items() if part is not None}
    with artifact.create(path, "linker", VERSION) as draft:
        for name, part in parts.items():
            shutil.copytree(
                part, draft.path / name, copy_function=artifact.link_or_copy
            )
            draft.made_from[name] = artifact.identity(part)
        record = dataclasses.asdict(make_settings(settings or {}, path))
        text = json.dumps({"settings": record}, indent=1) + "\n"
        (draft.path / FILE).write_text(text)
        if card:
            (draft.path / artifact.CARD).write_text(card, encoding="utf-8")
        check_parts(draft.path, draft.made_from)


def check_parts(path: Path, made_from: Mapping[str, str]) -> None:
    """Refuse a linker whose parts are not those it was put together from.

    made_from: part -> identity. Raises ArtifactError, also for an index that was made
    from another knowledge base or retriever than those beside it.
    """
    for part, identity in made_from.items():
        # the identity of a directory without a manifest depends on its files' sizes
        # alone
        if not (path / part / artifact.MANIFEST).is_file():
            continue
        actual = artifact.identity(path / part)
        if actual != identity:
            raise artifact.ArtifactError(
                f"{path}/{part}: expected the part {identity[:12]} that the linker was "
                f"put together from, found {actual[:12]}; put it together again"
            )
    if not (path / "index").is_dir():
        return
    index_from = artifact.read(path / "index").made_from
    for role, part in (("knowledge-base", "kb"), ("retriever", "retriever")):
        actual = artifact.identity(path / part)
        if index_from.get(role) != actual:
            raise artifact.ArtifactError(
                f"{path}/index: made from the {role} {str(index_from.get(role))[:12]}, "
                f"found the {role} {actual[:12]} beside it; index again"
            )


def open_retrieval(path: Path) -> tuple[Retriever, Index]:
    """The retriever and index of a linker. Raises ArtifactError where it has none."""
    check_retrieval(path)
    return Retriever.load(path / "retriever"), open_index(path / "index")


def check_retrieval(path: Path) -> None:
    """Raise ArtifactError where a linker has no retriever or no index."""
    for part in ("retriever", "index"):
        if not (path / part).is_dir():
            raise artifact.ArtifactError(
                f'{path}: system "insgenel-r" expects {part}/, found none; set '
                'system="insgenel" or put the linker together with one'
            )
