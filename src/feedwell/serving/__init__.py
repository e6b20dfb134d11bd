"""HTTP around the request flow: the app, its workers, and what keeps answering when something is gone."""
