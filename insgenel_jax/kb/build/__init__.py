"""Knowledge bases made from an entity list, from Wikipedia or from tables.

Each of them ends in `tables.build_from_tables`, which writes the directory that
`KnowledgeBase.open` reads.
"""
