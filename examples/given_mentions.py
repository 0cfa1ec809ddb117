"""Say where the names are, and let the linker say what they mean.

python examples/given_mentions.py
"""

from insgenel_jax import Linker

linker = Linker.from_pretrained("nano")
text = (
    "Marie Curie shared the Nobel Prize in Physics with Henri Becquerel in Stockholm."
)
names = ["Marie Curie", "Henri Becquerel", "Stockholm"]
spans = [(text.index(name), text.index(name) + len(name)) for name in names]

for mention in linker(text, mentions=spans).mentions:
    entity = mention.entity or "NIL"  # nothing in the knowledge base fits
    print(f"{text[mention.start : mention.end]:20} {entity:20} {mention.score}")
