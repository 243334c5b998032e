"""`python -m benchmarks` measures; `--help` says what can be chosen."""

from .run import main

if __name__ == "__main__":
    main()
