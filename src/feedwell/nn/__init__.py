"""Neural parts: blocks with shape suffixes, and the one training loop.

Nothing here is imported where a model only serves: torch stays out of a serving process.
"""
