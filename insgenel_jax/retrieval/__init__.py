"""Retrieval: windows of text in; the nearest entities of a knowledge base out.

A bi-encoder (encoder.py, retriever.py) turns windows and entities into vectors, and an
index (build.py, index.py) holds those of all entities. scope.py searches the windows of
whole texts and says which entities a place in the text may name.
"""
