"""`python -m aoskernel` is `aosk`."""

from aoskernel.plugins.cli.main import main

if __name__ == "__main__":
    main()
