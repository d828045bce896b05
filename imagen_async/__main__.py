"""``python -m imagen_async``: the command line."""

from imagen_async.cli.entry import main

if __name__ == "__main__":
    main()
