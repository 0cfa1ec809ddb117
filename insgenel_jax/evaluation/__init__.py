"""Scores of linked documents, the prior-only baseline, and reports of both."""
