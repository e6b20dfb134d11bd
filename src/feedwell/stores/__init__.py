"""Where state lives: one folder per kind of store."""
