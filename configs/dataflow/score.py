"""What a Flex Template starts: `score` with the parameters of the template as options."""

from __future__ import annotations

import sys

from pipeline.commands import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
