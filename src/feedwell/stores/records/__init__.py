"""Slate records and traces: what was served and why, durable before the answer leaves."""

from feedwell.stores.records.store import RecordStore

__all__ = ["RecordStore"]
