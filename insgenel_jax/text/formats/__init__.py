"""Files of documents, in and out. What cannot be read goes to a rejects file."""
