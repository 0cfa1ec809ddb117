"""Some documents in; the batch size that links the most of them a second out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from insgenel_jax.jobs.part import is_out_of_memory, link_documents
from insgenel_jax.linker.linker import Linker
from insgenel_jax.text.document import Document

SAMPLE = 256  # documents that are given to measure with
FIRST = 16  # of them that are linked to see how long the job will be
TAKES = 10.0  # seconds that one measurement may take
LONG = 1800.0  # seconds of a job from which on measuring is worth its while
BETTER = 1.05  # how many times as fast a larger or smaller batch must be


@dataclasses.dataclass(frozen=True)
class Measured:
    """A batch size, None for the linker's own; documents a second by batch."""

    batch: int | None
    rates: dict[str, float]


def measure_batch(
    linker: Linker, documents: Sequence[Document], given: bool, each: float
) -> Measured:
    """Find the batch size for a job by linking documents of it.

    given: link the mentions that they have. each: documents of the job for each
    process; where they take less than LONG, the linker's own batch is kept. Batches are
    doubled while that is faster, or else halved; a batch for which the device has no
    memory ends the doubling. Where some cannot be linked, the linker's own is kept.
    """
    own = linker.settings.batch
    first = documents[:FIRST]
    if not first:
        return Measured(None, {})
    try:
        rates = {own: _rate(linker, first, given, own)}
        if each / rates[own] < LONG:
            return Measured(None, {})
        sample = documents[: max(int(rates[own] * TAKES), FIRST)]
        rates[own] = _rate(linker, sample, given, own)
    except Exception:  # noqa: BLE001 (a shard finds the document, and goes on)
        return Measured(None, {})
    best = own
    for factor in (2.0, 0.5):
        if best != own:
            break
        while 1 <= (batch := int(best * factor)) <= len(sample):
            try:
                rates[batch] = _rate(linker, sample, given, batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                break
            if rates[batch] < BETTER * rates[best]:
                break
            best = batch
    shown = {str(batch): round(rate, 2) for batch, rate in rates.items()}
    return Measured(None if best == own else best, shown)


def _rate(
    linker: Linker, documents: Sequence[Document], given: bool, batch: int
) -> float:
    """Documents a second with a batch size, once all is compiled."""
    linker.settings = dataclasses.replace(linker.settings, batch=batch)
    link_documents(linker, documents, given)
    began = time.perf_counter()
    link_documents(linker, documents, given)
    return len(documents) / max(time.perf_counter() - began, 1e-9)
