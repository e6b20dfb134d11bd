"""The report as one page for people: everything inline, no script, nothing loaded from anywhere."""
