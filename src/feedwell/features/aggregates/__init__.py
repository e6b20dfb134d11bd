"""One file = one aggregate: its config, the measures it keeps, and its readings."""
