"""`python -m costd`: the same as `costd`."""

from costd.cli.main import main

if __name__ == "__main__":
    main()
