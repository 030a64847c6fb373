"""A worker without mlx: the same process and link, faults on request."""

import sys

COMMAND = [sys.executable, "-m", __name__]
