"""`python -m mizzen.data.ingest`: one load, told to the Dataset's status."""

import sys

from mizzen.data.ingest.main import main

if __name__ == "__main__":
    sys.exit(main())
