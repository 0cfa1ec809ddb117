"""Entities of your own: a CSV of products, linked with the models of `nano`.

python examples/own_entities.py [FOLDER]

Nothing is trained. How good the links are depends on how much your entities are like
those that the models were trained on; `insgenel tune` sets the weights on documents
that you have labelled.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from insgenel_jax import Linker
from insgenel_jax.linker.bundled import BUNDLED

PRODUCTS = [
    ("p1", "Falcon (keyboard)", "A mechanical keyboard with quiet keys.", "Falcon"),
    ("p2", "Falcon (bicycle)", "A light bicycle for long roads.", "Falcon"),
    ("p3", "Heron desk lamp", "A lamp with a long neck.", "Heron|Heron lamp"),
]
TEXT = "The Heron lamp stands beside my Falcon, whose keys I hardly hear."


def run(*arguments: object) -> None:
    """Run a command of insgenel."""
    command = [sys.executable, "-m", "insgenel_jax", *map(str, arguments)]
    subprocess.run(command, check=True)


folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
with (folder / "products.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["id", "title", "description", "aliases"])
    writer.writerows(PRODUCTS)

run("prepare", "entities", "--input", folder / "products.csv", "--out", folder / "made")
run(
    *("index", "--kb", folder / "made" / "kb"),
    *("--retriever", BUNDLED / "retriever", "--generator", BUNDLED / "generator"),
    *("--out", folder / "index", "--linker", folder / "linker"),
)
linker = Linker.from_pretrained(
    folder / "linker", system="insgenel", mention_bias=5.0, other_candidates=2
)
for mention in linker(TEXT).mentions:
    print(TEXT[mention.start : mention.end], mention.entity, mention.external_id)
    for other in mention.candidates:
        print(f"    or {other.entity}: {other.score:.2f}")
