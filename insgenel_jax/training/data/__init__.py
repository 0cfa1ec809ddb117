"""Training data: training documents in; examples and batches of each task out.

documents.py reads, shuffles and repeats the documents. chunks.py makes examples of the
generator (decisions.py says what is decided at each position), packing.py their
batches, lengths.py how long they are. windows.py makes examples and batches of the
retriever, and negatives.py adds the entities to each batch.
"""
