"""Training: one loop, two tasks (generator and retriever), checkpoints, examples."""
