"""Labelled documents and systems in; scores, losses by stage and tables out.

from insgenel_jax import Linker, evaluation
systems = [evaluation.linker_system(linker), evaluation.prior_system(linker.kb, dev)]
result = evaluation.run({"news": documents}, systems, kb=linker.kb)
result.results[0].scores.micro.f1
"""

from insgenel_jax.evaluation.elevant import score_articles, score_documents
from insgenel_jax.evaluation.run import (
    Evaluation,
    Predictions,
    Result,
    run,
)
from insgenel_jax.evaluation.scoring import Scores, make_resolve, score
from insgenel_jax.evaluation.systems import (
    System,
    Unopened,
    linker_system,
    prior_system,
)

__all__ = [
    "Evaluation",
    "Predictions",
    "Result",
    "Scores",
    "System",
    "Unopened",
    "linker_system",
    "make_resolve",
    "prior_system",
    "run",
    "score",
    "score_articles",
    "score_documents",
]
