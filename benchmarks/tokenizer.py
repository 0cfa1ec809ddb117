"""Tokenizer families on real text: tokens, speed, mentions lost to token borders.

python benchmarks/tokenizer.py --data DIR [--articles 400] [--json OUT]

DIR has `wiki/featured` (WikiExtractor's --links output) and `tokenizers/FAMILY`. A gold
mention is lost if it starts or ends inside a token or overlaps the mention before.
"mentions inside a word" counts those that start or end there: they are lost wherever a
target is cut. Speed is the median of 7 runs over the first 1,000 paragraphs on one
core, in processor time, so that other jobs on the machine disturb it less.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Annotated

import rich
import rich.table
import tokenizers
import typer

from insgenel_jax.kb.build import wikiextractor
from insgenel_jax.text.document import WORD, Document, normalise
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.text.linked_text import align, encode_prompt, encode_source
from insgenel_jax.tokenizer import load_tokenizer

# Measure one core.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
RUNS = 7
SPEED_PARAGRAPHS = 1000


def main(
    data: Annotated[Path, typer.Option(help="folder of texts and tokenizers")],
    articles: Annotated[int, typer.Option(help="articles to read")] = 400,
    json_: Annotated[
        Path | None, typer.Option("--json", help="where to write the figures")
    ] = None,
) -> None:
    """Print the figures as a table."""
    paragraphs = read(data / "wiki" / "featured", articles)
    facts = {
        "python": platform.python_version(),
        "tokenizers": tokenizers.__version__,
        "articles": articles,
        "paragraphs": len(paragraphs),
        "characters": sum(len(p.text) for p in paragraphs),
        "mentions": sum(len(p.mentions) for p in paragraphs),
        "mentions inside a word": sum(map(inside_a_word, paragraphs)),
    }
    families = sorted(p for p in (data / "tokenizers").iterdir() if p.is_dir())
    rows = [measure(path, paragraphs) for path in families]
    table = rich.table.Table(title=", ".join(f"{k} {v}" for k, v in facts.items()))
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            *(f"{v:,.3f}" if type(v) is float else str(v) for v in row.values())
        )
    rich.print(table)
    if json_:
        json_.write_text(json.dumps(facts | {"families": rows}, indent=1) + "\n")


def read(path: Path, articles: int) -> list[Document]:
    """The paragraphs of the first articles."""
    with Rejects(None) as rejects:
        files = wikiextractor.find_files(path)
        pages = (
            page for file in files for page in wikiextractor.read_pages(file, rejects)
        )
        some = itertools.islice(pages, articles)
        return [paragraph for page in some for paragraph in page.paragraphs]


def inside_a_word(paragraph: Document) -> int:
    """The number of mentions that start or end between two characters of a word."""
    text = normalise(paragraph.text)
    inner = {i for m in WORD.finditer(text) for i in range(m.start() + 1, m.end())}
    return sum(m.start in inner or m.end in inner for m in paragraph.mentions)


def measure(path: Path, paragraphs: list[Document]) -> dict:
    """One row of the table."""
    began = time.process_time()
    tokenizer = load_tokenizer(path)
    loaded = time.process_time() - began
    texts = [paragraph.text for paragraph in paragraphs[:SPEED_PARAGRAPHS]]
    source_speed = speed(lambda text: encode_source(tokenizer, text), texts)
    prompt_speed = speed(lambda text: encode_prompt(tokenizer, "", text), texts)
    tokens = lost = prompt_tokens = 0
    for paragraph in paragraphs:
        source = encode_source(tokenizer, paragraph.text)
        tokens += len(source)
        prompt_tokens += len(encode_prompt(tokenizer, "", paragraph.text))
        lost += align(source, paragraph.mentions)[1]
    return {
        "family": path.name,
        "load s": loaded,
        "source tokens": tokens,
        "prompt tokens": prompt_tokens,
        "source tokens/s": source_speed,
        "prompt tokens/s": prompt_speed,
        "mentions lost": lost,
        "lost %": 100 * lost / sum(len(p.mentions) for p in paragraphs),
    }


def speed(encode: Callable[[str], Sized], texts: list[str]) -> int:
    """Tokens per second of processor time."""
    seconds = []
    for _ in range(RUNS):
        began = time.process_time()
        tokens = sum(len(encode(text)) for text in texts)
        seconds.append(time.process_time() - began)
    return round(tokens / statistics.median(seconds))


if __name__ == "__main__":
    typer.run(main)
