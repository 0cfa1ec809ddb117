"""Do step, tree and speculative give one answer? On real documents, by batch and mesh.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python benchmarks/equality.py \
        --linker DIR [--linker DIR] --documents FILE [--documents FILE] [--set ...]

Every way is compared with `step`, a chunk at a time on one device. *same* counts the
documents with the same mentions, and scores within 1e-5. *ties* counts the chunks with
a decision closer than 1e-4, which may fall either way.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import json as jsonlib
from pathlib import Path
from typing import Annotated

import jax
import typer
from rich.console import Console
from systems import alike  # this and the next beside this script
from tables import as_table

from insgenel_jax import cli
from insgenel_jax.generator import load_generator
from insgenel_jax.linker import Linker
from insgenel_jax.linker.settings import read_settings
from insgenel_jax.sharding import make_mesh
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects

DECODERS, BATCHES = ("step", "tree", "speculative"), (1, 16)


def main(
    linker: Annotated[list[Path], typer.Option(help="linker directory; repeatable")],
    documents: Annotated[list[Path], typer.Option(help="JSONL; repeatable")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="linker setting; repeatable")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Link the same documents in every way and compare."""
    console, rows = Console(width=110), []
    meshes = {"1x1x1": None}
    if jax.device_count() == 8:
        meshes["2x2x2"] = make_mesh(2, 2, 2)
    else:
        console.print(f"{jax.device_count()} devices, not 8: no mesh of 2x2x2")
    settings = cli.parse_settings(set_ or [])
    for path, system in itertools.product(linker, ("insgenel-r", "insgenel")):
        whole = Linker.from_pretrained(path, system="insgenel-r")
        generators = {
            name: load_generator(path / "generator", mesh)
            for name, mesh in meshes.items()
        }
        for file in documents:
            with Rejects(None) as rejects:
                texts = list(read_documents(file, rejects))
            expected = None
            for name, decoder, batch in itertools.product(meshes, DECODERS, BATCHES):
                opened = Linker(
                    generators[name],
                    whole.kb,
                    whole.retriever,
                    whole.index,
                    read_settings(
                        path,
                        **settings,
                        system=system,
                        decoder=decoder,
                        batch=batch,
                    ),
                )
                found = opened(texts)
                expected = expected or found
                same = sum(map(alike, found, expected))
                rows.append(
                    {
                        "linker": str(path),
                        "set": file.stem,
                        "way": f"{system}, {decoder}",
                        "batch": batch,
                        "mesh": name,
                        "links": opened.stats["links"],
                        "ties": opened.stats["ties"],
                        "same": f"{same} of {len(texts)}",
                    }
                )
    about = {
        "jax": importlib.metadata.version("jax"),
        "devices": jax.device_count(),
        "settings": set_ or [],
    }
    console.print(about)
    console.print(as_table("compared with step, a chunk at a time", rows))
    if json is not None:
        json.write_text(jsonlib.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
