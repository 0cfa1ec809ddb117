"""The entities that a dictionary names in some documents, as a list: with it, versions
of this code whose knowledge bases differ link with the same candidates.

    python benchmarks/same_candidates.py --kb DIR --documents FILE --out FILE
        [--case capitalised] [--min-link-probability 0.03] [--max-candidates 20]

Of each surface form found in the documents, the list has the entities that it names
most often, with the form among their aliases. `insgenel prepare entities` makes a
knowledge base of it, in which all candidates weigh the same.
"""

from __future__ import annotations

import argparse
import collections
import json
from pathlib import Path

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.occurrences import CASES, find_occurrences, passes
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kb", type=Path, required=True)
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--case", choices=CASES, default="capitalised")
    parser.add_argument("--min-link-probability", type=float, default=0.03)
    parser.add_argument("--max-candidates", type=int, default=20)
    arguments = parser.parse_args()
    kb = KnowledgeBase.open(arguments.kb)
    aliases: dict[int, set[str]] = collections.defaultdict(set)
    for document in read_documents(arguments.documents, Rejects()):
        text = document.text
        found = find_occurrences(kb, text)
        rows = passes(found, arguments.case, arguments.min_link_probability, "whole")
        columns = (found.starts, found.ends, found.forms)
        for start, end, form in zip(*(c[rows].tolist() for c in columns), strict=True):
            entities, _ = kb.candidates(form)
            for entity in entities[: arguments.max_candidates].tolist():
                aliases[entity].add(text[start:end])
    with arguments.out.open("w", encoding="utf-8") as stream:
        for entity, names in sorted(aliases.items()):
            record = {"title": kb.title(entity), "aliases": sorted(names)}
            stream.write(json.dumps(record) + "\n")
    print(f"{len(aliases)} entities: {arguments.out}")


if __name__ == "__main__":
    main()
