"""The command line: one file per command, named after it, loaded when it is called.

A command's file holds a function `command`, or an `app` where it has sub-commands; its docstring's first line is the
help.
"""

from feedwell.cli._app import main as main
