"""Releases: what training leaves behind, whole or absent, and the pointers that say which of it serves.

artifacts/<kind>/<name>/<digest>/{manifest.json, files}    immutable, named by content
releases/<id>/release.json                                 the artifacts that serve together, the project as it was
channels/<name>                                            an atomic pointer, with the way back
"""

from feedwell.stores.releases.files import ReleaseStore

__all__ = ["ReleaseStore"]
