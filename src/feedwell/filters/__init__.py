"""Rules that drop candidates, one file each: they read live state and never relax."""
