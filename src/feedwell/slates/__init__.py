"""Slate policies, one file each: utilities over what is left, given what was chosen."""
