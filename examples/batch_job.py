"""Many documents from a file to a file, with progress in your own hands.

python examples/batch_job.py [FOLDER]

Documents come and go one by one, so files of any size fit in memory; what cannot be
read goes to the rejects, with its line and the reason. From the command line the same
is `insgenel link --input FILE --output FILE`.
"""

import json
import sys
import tempfile
from pathlib import Path

from insgenel_jax import Linker
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.rejects import Rejects

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
source, target = folder / "texts.jsonl", folder / "linked.jsonl"
with source.open("w") as file:
    for number in range(40):
        text = f"Note {number}: Marie Curie lectured in Paris and in Warsaw."
        file.write(json.dumps({"id": number, "text": text}) + "\n")
    file.write("this line is no JSON\n")


def watched(documents):
    """The documents, with a word now and then."""
    for count, document in enumerate(documents, 1):
        if count % 20 == 0:
            print(f"{count} documents, {linker.stats['links']} links")
        yield document


linker = Linker.from_pretrained("nano", threshold=0.5)
with Rejects(folder / "rejects.jsonl") as rejects:
    documents = read_documents(source, rejects)
    count = write_documents(target, watched(linker.stream(documents, group=16)))
print(f"{count} documents in {target.name}, {rejects.count} rejected")
