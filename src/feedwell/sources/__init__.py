"""Retrievers, one file each: a request in, distinct keys out, best first."""
