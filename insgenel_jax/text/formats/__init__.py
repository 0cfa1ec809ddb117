"""Files in; lines, documents and rejects out; and documents back to files.

`lines` reads numbered lines, also of packed files. `documents` makes Documents of them
and writes Documents. `rejects` is where input goes that cannot be read.
"""
