"""A file of documents in; a file of linked documents, rejects and statistics out."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator

from insgenel_jax.linker.linker import Linker
from insgenel_jax.stopping import StopRequests
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import (
    FormatName,
    WrittenName,
    read_documents,
    write_documents,
)
from insgenel_jax.text.formats.lines import Place
from insgenel_jax.text.formats.rejects import Rejects


@dataclasses.dataclass(frozen=True)
class Summary:
    """Counts of a linked file.

    stats: what `Linker.stats` counted for this file. seconds: from reading the first
    line until the output was complete.
    """

    documents: int
    stats: collections.Counter[str]
    seconds: float


def link_file(
    linker: Linker,
    input: str | os.PathLike,
    output: str | os.PathLike,
    rejects: Rejects,
    *,
    format: FormatName | None = None,
    output_format: WrittenName | None = None,
    given: bool = False,
    limit: int | None = None,
    watch: Callable[[Document, int], None] | None = None,
    stop: StopRequests | None = None,
) -> Summary:
    """Link every document of a file, in order, into another file.

    input: in any format (see `read_documents` for `format`), also packed with gzip or
    bzip2; "-" is standard input. output: appears when it is complete, packed where its
    name says so; "-" is standard output; see `write_documents` for `output_format`.
    rejects: takes the lines that cannot be read. given: link the mentions that each
    document has. limit: only so many documents, the first [all]. watch: called with
    each linked document, and with the bytes of the input read up to it (0 for a pipe).
    stop: where it got a signal, the group at hand is linked, and Stopped is raised; a
    file is then not written. The documents are linked in groups, so that a file of any
    size fits in memory. Raises FileNotFoundError for a missing input.
    """
    before = linker.stats.copy()
    began = time.perf_counter()
    place, places = Place(), collections.deque[int]()
    read = read_documents(input, rejects, format=format, place=place)
    stop = stop or StopRequests()
    first = itertools.islice(stop.inputs(read), limit)
    documents = note_places(first, place, places)
    linked = linker.stream(documents, given=given)
    if watch is not None:
        linked = show(linked, watch, places)
    count = write_documents(output, stop.results(linked), format=output_format)
    seconds = time.perf_counter() - began
    stats = collections.Counter(linker.stats)
    stats.subtract(before)
    return Summary(count, stats, seconds)


def note_places(
    documents: Iterable[Document], place: Place, places: collections.deque[int]
) -> Iterator[Document]:
    """The documents; `places` gets the bytes read up to each of them."""
    for document in documents:
        places.append(place.bytes)
        yield document


def show(
    documents: Iterable[Document],
    watch: Callable[[Document, int], None],
    places: collections.deque[int],
) -> Iterator[Document]:
    """The documents, each shown to `watch` with the next of `places`."""
    for document in documents:
        watch(document, places.popleft())
        yield document
