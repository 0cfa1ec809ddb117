"""What a search over the entities of a knowledge base gives: entities with scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class EntityScores(NamedTuple):
    """N entities of a knowledge base, by ascending number, and a score for each."""

    entities: np.ndarray  # int32 [N]
    scores: np.ndarray  # float32 [N]
