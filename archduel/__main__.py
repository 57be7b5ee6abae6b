"""`python -m archduel` is the command line."""

from archduel.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
