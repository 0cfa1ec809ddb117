"""Training data: documents in; examples and batches of each task out."""
