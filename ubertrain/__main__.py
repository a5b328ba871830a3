"""`python -m ubertrain` is the command `ubertrain`."""

from ubertrain.cli.main import main

main()
