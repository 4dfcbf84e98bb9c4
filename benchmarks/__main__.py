"""``python -m benchmarks``: every benchmark, one after the other."""

import sys

from benchmarks.run_all import main

if __name__ == "__main__":
    sys.exit(main())
