"""Settings of Custom Vision: what is missing or wrong is named, and no key is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_mlops.config.custom_vision_settings import CustomVisionSettings
from vision_mlops.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
PREFIX = "MLOPS_CUSTOM_VISION_"
NEEDED = {
    f"{PREFIX}TRAINING_ENDPOINT": "https://cv-a-train.cognitiveservices.azure.com/",
    f"{PREFIX}PREDICTION_ENDPOINT": "https://cv-a-predict.cognitiveservices.azure.com/",
    f"{PREFIX}PREDICTION_ID": "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a",
}


def test_defaults() -> None:
    settings = CustomVisionSettings.load(environ=NEEDED)
    assert (settings.sku, settings.domain, settings.training) == ("F0", "General", "quick")
    assert settings.training_key is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict.fromkeys(NEEDED, ""), "PREDICTION_ID are not set\n  -> MLOPS_CUSTOM_VISION_TRAINING_ENDPOINT is the address"),
        ({f"{PREFIX}PREDICTION_ID": ""}, "_ID is not set\n  -> MLOPS_CUSTOM_VISION_PREDICTION_ID is the resource id"),
        ({f"{PREFIX}TRANING": "quick"}, "did you mean MLOPS_CUSTOM_VISION_TRAINING?"),
        ({f"{PREFIX}TRAINING_ENDPOINT": "cv-a"}, "write it like https://"),
        ({f"{PREFIX}SKU": "S1"}, "SKU='S1' (environment) is not valid\n  -> did you mean 'S0'? Valid here: F0, S0"),
        ({f"{PREFIX}HOURS": "abc"}, "HOURS='abc' (environment) is not valid\n  -> give a whole number from 1 to 24"),
        (
            {f"{PREFIX}PREDICTION_ENDPOINT": "https://westeurope.api.cognitive.microsoft.com/"},
            "set MLOPS_CUSTOM_VISION_PREDICTION_KEY, or use the account's own address",
        ),
    ],
    ids=["all", "missing", "unknown", "address", "sku", "hours", "region"],
)  # fmt: skip
def test_settings_that_are_wrong(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CustomVisionSettings.load(environ={**NEEDED, **changes})
    assert message in str(caught.value)


def test_no_key_is_shown() -> None:
    for key in ("two words", "sécret"):
        with pytest.raises(ConfigError) as caught:
            CustomVisionSettings.load(environ={**NEEDED, f"{PREFIX}TRAINING_KEY": key})
        assert "TRAINING_KEY (environment) is not valid" in str(caught.value)
        assert key not in str(caught.value)
    assert "abc123" not in repr(CustomVisionSettings.load(environ={**NEEDED, f"{PREFIX}TRAINING_KEY": "abc123"}))


def test_the_example_file_has_every_setting(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = [str(field.alias) for field in CustomVisionSettings.model_fields.values()]
    assert all(f"\n# {name}=" in text for name in names)
    file = tmp_path / ".env"
    file.write_text(text.replace(f"# {PREFIX}", PREFIX))
    found = CustomVisionSettings.load(env_file=file, environ={f"{PREFIX}SKU": "S0"})
    assert (found.sku, found.training) == ("S0", "quick"), "the environment wins"
