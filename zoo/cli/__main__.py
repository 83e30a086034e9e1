"""`python -m zoo.cli`, for where the `zoo` script is not on the path."""

import sys

from zoo.cli import main

sys.exit(main())
