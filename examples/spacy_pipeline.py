"""A spaCy pipeline with linked entities: pip install "insgenel_jax[spacy]"

python examples/spacy_pipeline.py
"""

import spacy

from insgenel_jax.serving import spacy_component  # noqa: F401 (without an installation)

nlp = spacy.blank("en")
nlp.add_pipe("insgenel", config={"linker": "nano", "candidates": 3})

texts = [
    "Marie Curie was born in Warsaw and studied in Paris.",
    "David Bowie recorded in West Berlin with Brian Eno.",
]
for doc in nlp.pipe(texts):
    for entity in doc.ents:
        print(f"{entity.text:20} {entity.kb_id_}")
    for link in doc._.links:
        others = [other["entity"] for other in link.get("candidates", [])]
        print(f"    {link['score']:.2f} {link['entity']}, or {others}")
