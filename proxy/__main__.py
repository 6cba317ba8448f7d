"""``python -m proxy`` is the command ``tollgate``."""

from proxy.cli import main

main()
