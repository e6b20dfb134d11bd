"""feedwell: recommendation feeds, end to end, from one project file.

`feedwell.open(folder)` gives everything a project holds to Python. It is loaded on first use, so that
`import feedwell` costs nothing and the command line answers at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feedwell.workspace import open as open
    from feedwell.workspace import simulate as simulate

__version__ = "0.1.0"
__all__ = ["__version__", "open", "simulate"]


def __getattr__(name: str) -> Any:
    if name in ("open", "simulate"):
        from feedwell import workspace

        return getattr(workspace, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
