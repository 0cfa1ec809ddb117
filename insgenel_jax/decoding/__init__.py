"""Constrained decoding: chunks and the generator's functions in, paths out.

`mentions` and `table` say what the generator may write; `step`, `tree`, `speculative`
and `beam` are four ways of asking it, with one signature; `path` reads the answer.
"""
