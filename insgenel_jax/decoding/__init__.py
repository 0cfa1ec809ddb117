"""Decision decoding: where the generator is asked, what it may answer, and how."""
