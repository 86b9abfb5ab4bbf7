"""Puts files of the repository that commands read into the wheel: the template of `mlops init`, pins, a Dockerfile."""

import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "src"))

from vision_mlops.core.paths import SHIPPED  # noqa: E402 - from the source that is built
from vision_mlops.project.shipped_files import copy_shipped_files  # noqa: E402


class BuildPackage(build_py):
    """Builds the package as usual, and adds the files; an editable install reads them in the repository."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "vision_mlops", SHIPPED)
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            copy_shipped_files(ROOT, target)


setup(cmdclass={"build_py": BuildPackage})
