"""The training flow: from labelled exposures to a release, and the evaluation that decides about it."""
