"""The retriever: windows of text in, the entities of a knowledge base nearest to them out."""
