"""Metrics: each file is one family, and each family emits sufficient statistics that merge by addition.

Offline evaluation, monitoring and A/B read-outs share them. Intervals come from a Poisson bootstrap over units (users),
whose weights are hashed from the unit, so that parts computed on different machines add up to the same interval and two
systems measured on the same users give paired differences.
"""

from feedwell.metrics._lists import ListMetric, Lists
from feedwell.metrics._ratios import Interval, Ratios, difference, poisson_weights, smallest_detectable

__all__ = ["Interval", "ListMetric", "Lists", "Ratios", "difference", "poisson_weights", "smallest_detectable"]
