"""What a search over the entities of a knowledge base gives: entities with scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32


class EntityScores(NamedTuple):
    """N entities of a knowledge base, by ascending number, and a score for each."""

    entities: Int32[np.ndarray, " N"]
    scores: Float32[np.ndarray, " N"]
