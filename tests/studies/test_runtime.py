"""What the study of runtimes counts."""

import dataclasses

import numpy as np

from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.linker import Linker
from insgenel_jax.studies.runtime import count_choices, count_parameters
from insgenel_jax.text.document import Document


def mention(count: int) -> CandidateMention:
    """A candidate mention of so many entities."""
    zeros = np.zeros(count)
    return CandidateMention(0, 1, zeros.astype(np.int32), zeros, zeros)


def test_choices(linker_path):
    """Every mention is one, and so is every candidate of an ambiguous mention."""
    (chunk,) = Linker.from_pretrained(linker_path).chunks([Document("1", "In Paris")])

    def count(*chunks):
        return count_choices(
            [dataclasses.replace(chunk, candidates=[*map(mention, c)]) for c in chunks]
        )

    assert count() == 0 and count([1, 1]) == 2
    assert count([1, 3], [2]) == 2 + 3 + 1 + 2


def test_parameters_and_choices_of_a_linker(linker_path):
    linker = Linker.from_pretrained(linker_path)
    config = linker.generator.config
    assert count_parameters(linker) > config.vocabulary * config.dim
    chunks = linker.chunks([Document("1", "Paris, where Jordan met Apollo")])
    mentions = [c for chunk in chunks for c in chunk.candidates]
    several = [len(c.entities) for c in mentions if len(c.entities) > 1]
    assert count_choices(chunks) == len(mentions) + sum(several) > 3
