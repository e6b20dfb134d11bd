"""feedwell: recommendation feeds, end to end, from one project file.

`feedwell.open(folder)` gives everything a project holds to Python. It is loaded on first use, so that
`import feedwell` costs nothing and the command line answers at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feedwell.workspace import open as open

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def __getattr__(name: str) -> Any:
    if name == "open":
        from feedwell.workspace import open as open_workspace

        return open_workspace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
