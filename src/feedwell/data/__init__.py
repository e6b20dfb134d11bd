"""Data: from files and events to exposures, labels and spans of time; adapters for public sets; the simulated world."""
