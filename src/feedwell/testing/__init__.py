"""Public conformance checks: what a part, a store or a set of features must pass."""
