"""``python -m countermove`` is the command line."""

from countermove.cli.main import main

if __name__ == "__main__":
    main()
