"""The guide's table of what each publisher's encoder computes here beside at home.

python -m tests.weights.references --table
"""

import argparse
import sys

from tests.weights.references.compare import reference_table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", required=True)
    parser.parse_args()
    sys.stdout.write(reference_table())


if __name__ == "__main__":
    main()
