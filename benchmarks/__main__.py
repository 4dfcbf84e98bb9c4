"""``python -m benchmarks``: every benchmark, one after the other."""

from .run_all import main

if __name__ == "__main__":
    main()
