"""Where batch work runs. `local` is DuckDB in this process; the port is `Engine`."""

from feedwell.engines.local import Engine, LocalEngine

__all__ = ["Engine", "LocalEngine"]
