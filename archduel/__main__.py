"""`python -m archduel` is the command line."""

from archduel.commands import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
