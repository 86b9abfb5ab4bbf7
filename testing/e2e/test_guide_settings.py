"""The settings in guides are those that the package reads, and those that our scripts print."""

from __future__ import annotations

import re
from pathlib import Path

from testing.support.guide_blocks import ROOT, blocks_of
from testing.support.recorded_commands import World

from vision_mlops.config.azure_settings import VARIABLES, AzureSettings
from vision_mlops.config.custom_vision_settings import PREFIX, CustomVisionSettings

AUTOML = ROOT / "docs" / "how_to" / "automl_images.md"
CUSTOM_VISION = ROOT / "docs" / "how_to" / "custom_vision.md"


def settings_of(guide: Path) -> str:
    return next(block.text for block in blocks_of(guide) if not block.language)


def test_settings_of_automl(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(settings_of(AUTOML))
    assert AzureSettings.load(env_file=tmp_path / ".env", environ={}).gpu_is_set
    names = [name for name in VARIABLES if "_AUTOML_" in name]
    assert len(names) == 2
    assert [name for name in names if f"`{name}`" not in AUTOML.read_text(encoding="utf-8")] == []


def test_settings_of_custom_vision() -> None:
    text = CUSTOM_VISION.read_text(encoding="utf-8")
    names = [str(field.alias).removeprefix(PREFIX) for field in CustomVisionSettings.model_fields.values()]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_scripts_of_custom_vision(tmp_path: Path) -> None:
    lines = [
        line for block in blocks_of(CUSTOM_VISION) for line in block.commands if line.startswith("infrastructure/")
    ]
    assert [Path(line.split()[0]).name for line in lines] == ["create.sh", "delete.sh"]
    with World.run_in(tmp_path) as world:
        for line in lines:
            words = line.split()
            done = world.run(words[0].removeprefix("infrastructure/"), *words[1:])
            assert done.returncode == 0, done.stderr
            if "create" in line:
                names = re.findall(rf"^({PREFIX}\w+)=\S+$", done.stdout, re.MULTILINE)
                assert names == re.findall(rf"^({PREFIX}\w+)=", settings_of(CUSTOM_VISION), re.MULTILINE)
