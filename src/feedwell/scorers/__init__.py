"""Rankers and value functions, one file each: candidates in, new columns out; NaN where there is no score."""
