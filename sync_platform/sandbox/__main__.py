"""`python -m sync_platform.sandbox`."""

from sync_platform.sandbox.server import main

main()
