"""Features: one declaration, readings that agree: `asof` (batch), `fold` (online), `hydrate` (state from history).

Read in this order: `measures` (what is kept), `aggregates/` (formulas over it), `definition` (a project's columns and
views), then the readings `asof`, `fold`, `hydrate`, `latest`, and `reference`: slow, obvious, sharing nothing.
"""

from feedwell.features.asof import asof, histories
from feedwell.features.definition import FeatureSet
from feedwell.features.feature_column import FeatureColumn
from feedwell.features.fold import Fold
from feedwell.features.hydrate import hydrate
from feedwell.features.latest import StateReader
from feedwell.features.reference import reference

__all__ = ["FeatureColumn", "FeatureSet", "Fold", "StateReader", "asof", "histories", "hydrate", "reference"]
