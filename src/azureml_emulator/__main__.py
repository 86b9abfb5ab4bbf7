"""``python -m azureml_emulator``: see :mod:`azureml_emulator.emulator_command`."""

from __future__ import annotations

import sys

from azureml_emulator.emulator_command import main

if __name__ == "__main__":
    sys.exit(main())
