"""Compiling ahead of time for a slice of TPUs that is not there.

The name of a slice and a config or model in; memory a chip, FLOPs, collectives and the
attention kernel out, from the program that would run on it. Nothing is run.
"""
