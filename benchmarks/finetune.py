"""Fine-tuning on one's own documents: scores of a test set before and after.

    python benchmarks/finetune.py --linker DIR --train FILE --test FILE --out DIR
        [--how lora|full] [--epochs 3] [--learning-rate RATE] [--set KEY=VALUE ...]

    python benchmarks/finetune.py --entities FILE --generator DIR --train FILE ...

The second command first makes an INSGENEL linker of a list of entities, in which the
labels of the training set are counted. `--linker nano` is the one in the box. Training
documents whose text is in the test set too are left out. Then it does what `insgenel
finetune` does, with the test set in place of the documents held back; nothing is chosen
by it. `--set` says how the linker decides, and then without a calibrator: where the
prior settles everything, a better generator changes nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from insgenel_jax import cli
from insgenel_jax.finetune import Training, finetune
from insgenel_jax.kb.build.entity_list import build_from_entity_list
from insgenel_jax.linker import assemble
from insgenel_jax.linker.bundled import locate
from insgenel_jax.linker.settings import read_settings
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--linker", help="a directory, or nano")
    source.add_argument("--entities", type=Path, help="a list; with --generator")
    parser.add_argument("--generator", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--how", choices=("lora", "full"), default="lora")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    rejects, console = Rejects(arguments.out / "rejects.jsonl"), Console(width=100)
    start = begin(arguments, rejects)
    train, test = (
        list(read_documents(path, rejects))
        for path in (arguments.train, arguments.test)
    )
    tested = {document.text for document in test}
    new = [document for document in train if document.text not in tested]
    console.print(f"{len(train) - len(new)} of {len(train)} are in the test set too")
    began = time.perf_counter()
    training = Training(arguments.how, arguments.epochs, arguments.learning_rate, 0)
    workdir = arguments.out / "training"
    finetune(
        start,
        (new, test),
        arguments.out / "linker",
        workdir,
        training,
        rejects,
        console,
    )
    console.print(f"{time.perf_counter() - began:.0f} s, both scores included")


def begin(arguments: argparse.Namespace, rejects: Rejects) -> Path:
    """The linker to begin with, with the settings asked for; its directory."""
    settings = cli.parse_settings(arguments.set)
    start = arguments.out / "start"
    if arguments.linker is not None:
        linker = locate(arguments.linker)
        return overridden(linker, settings, start) if settings else linker
    kb = arguments.out / "kb"
    build_from_entity_list(kb, arguments.entities, rejects, documents=arguments.train)
    settings = {"system": "insgenel"} | settings
    assemble(start, kb=kb, generator=arguments.generator, settings=settings)
    return start


def overridden(linker: Path, settings: dict[str, Any], out: Path) -> Path:
    """A linker with other settings and without its calibrator, at `out`."""
    names = ("kb", "generator", "retriever", "index")
    parts = {name: linker / name for name in names if (linker / name).is_dir()}
    own = dataclasses.asdict(read_settings(linker))
    assemble(out, **parts, settings=own | {"threshold": 0.0} | settings)
    return out


if __name__ == "__main__":
    main()
