"""Texts: documents and their files, cuts into windows and chunks, linked text."""
