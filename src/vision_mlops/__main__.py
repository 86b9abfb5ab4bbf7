"""``python -m vision_mlops`` is ``mlops``."""

from vision_mlops.cli.main import main

main()
