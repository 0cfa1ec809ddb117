"""Studies: a knowledge base or a linker, with labelled documents, in; a table of what
each of several choices brings and costs, as JSON and as a figure, out."""
