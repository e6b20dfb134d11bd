"""The event log: SQLite in front, Parquet behind."""

from feedwell.stores.log.append import Appended
from feedwell.stores.log.history import LoadReport
from feedwell.stores.log.log import EventLog
from feedwell.stores.log.schema import event_schema, raw_schema
from feedwell.stores.log.segments import rows_without

__all__ = ["Appended", "EventLog", "LoadReport", "event_schema", "raw_schema", "rows_without"]
