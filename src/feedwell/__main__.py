"""`python -m feedwell`: the command line."""

from feedwell.cli import main

if __name__ == "__main__":
    main()
