"""Encoders of content, one file each: texts in, vectors out. A part's key `embed` names the one that it uses."""
