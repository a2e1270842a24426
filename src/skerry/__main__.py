"""`python -m skerry`: the command line, where the script `skerry` is not on the path."""

from skerry.cli.main import main

if __name__ == "__main__":
    main()
