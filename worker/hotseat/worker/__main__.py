"""Entry point of `python -m hotseat.worker`."""

from hotseat.worker.main import main

main()
