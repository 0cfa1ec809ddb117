"""A linker in; a web service with a page for people, and a spaCy component, out.

    request -> gate (limits) -> app (routes) -> service -> batcher -> Linker

All linking runs in one thread, in batches that the batcher gathers from the requests.
"""
