"""Nouns and rules: no I/O, numpy and pydantic only.

Read in this order: `event`, `catalog`, `objective`, `project` (what a user declares), `needs`, `request`, `candidates`,
`slate`, `sampler` (one request), `artifact` (what training leaves behind), `protocols` and `registry` (how parts plug
in).
"""
