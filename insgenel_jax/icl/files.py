"""A file of documents in; a file of linked documents and rejects out."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable

from insgenel_jax.icl.linker import IclLinker
from insgenel_jax.linker.files import note_places, show
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import (
    FormatName,
    read_documents,
    write_documents,
)
from insgenel_jax.text.formats.lines import Place
from insgenel_jax.text.formats.rejects import Rejects


def link_file(
    linker: IclLinker,
    input: str | os.PathLike,
    output: str | os.PathLike,
    rejects: Rejects,
    *,
    format: FormatName | None = None,
    watch: Callable[[Document, int], None] | None = None,
) -> int:
    """Link every document of a file, in order, into another file; their number.

    input, output, format, watch: as in `linker.files.link_file`. A document with a part
    that got no answer is written without the links of that part, and goes to the
    rejects with the reason; the same job once more asks for these parts alone, where
    the linker has a cache. Raises EndpointError where the endpoint refuses all.
    """

    place, places = Place(), collections.deque[int]()
    read = read_documents(input, rejects, format=format, place=place)
    linked = linker.stream(note_places(read, place, places))
    if watch is not None:
        linked = show(linked, watch, places)
    reported = len(linker.unanswered)
    count = write_documents(output, linked)
    for identifier, reason in linker.unanswered[reported:]:
        rejects.add(str(input), None, f"no answer: {reason}", identifier)
    return count
