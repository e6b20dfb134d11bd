"""The event log: SQLite in front, Parquet behind."""

from feedwell.stores.log.append import Appended
from feedwell.stores.log.log import EventLog
from feedwell.stores.log.schema import event_schema, raw_schema

__all__ = ["Appended", "EventLog", "event_schema", "raw_schema"]
