"""Documents and their texts in; chunks, prompts, targets and files of documents out.

`document` has Document and Mention. `chunking` cuts texts, `linked_text` turns text
with links into token ids and back, `formats` reads and writes files.
"""
