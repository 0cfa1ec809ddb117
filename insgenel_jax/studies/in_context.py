"""A source of answers and labelled documents in; F1 of INSGENEL-ICL's prompts out.

This is the paper's table 2, and its open question about prompts: what bad cases,
contexts, descriptions and the number of entities bring.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from insgenel_jax.evaluation.scoring import Resolve, same_entity, score
from insgenel_jax.icl.linker import IclLinker
from insgenel_jax.icl.settings import IclSettings
from insgenel_jax.studies.rows import Progress, Row, silent
from insgenel_jax.studies.runtime import bare
from insgenel_jax.text.document import Document

VARIANTS: dict[str, dict[str, Any]] = {
    "as the paper": {},
    "no bad cases": {"bad_cases": False},
    "no contexts": {"contexts": False},
    "descriptions": {"descriptions": True},
    "10 entities": {"k": 10},
}


def study_in_context(
    make_linker: Callable[[IclSettings], IclLinker],
    sets: Mapping[str, Sequence[Document]],
    resolve: Resolve,
    given: Mapping[str, Any],
    progress: Progress = silent,
) -> list[Row]:
    """For each set, a row for each variant of the prompt.

    make_linker: a linker of some settings. given: settings of all variants. failures:
    lines that became no link, whatever the reason (see `icl.parse`), and answers that
    did not come.
    """
    same, rows = same_entity(resolve), []
    for name, documents in sets.items():
        for variant, changes in VARIANTS.items():
            progress(f"asking about {name}: {variant}")
            linker = make_linker(IclSettings(**{**given, **changes}))
            began = time.perf_counter()
            linked = linker(bare(documents))
            seconds = time.perf_counter() - began
            micro = score(documents, linked, same=same).micro
            stats = linker.stats
            rows.append(
                {
                    "documents": name,
                    "prompt": variant,
                    "texts": len(documents),
                    "precision, %": 100 * micro.precision,
                    "recall, %": 100 * micro.recall,
                    "F1, %": 100 * micro.f1,
                    "links": stats["links"],
                    "failures": sum(linker.failures.values()),
                    "asked": stats["asked"],
                    "from cache": stats["from cache"],
                    "tokens": stats["prompt tokens"] + stats["answer tokens"],
                    "seconds": seconds,
                }
            )
    return rows
