"""Keys of endpoints in a key vault, through the real SDK: made, renewed, deleted and recovered, and never shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from testing.support.places import Place

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.loopback_tokens import LoopbackCredential
from vision_mlops.azure.clients import vault_client
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.endpoints.aci.key_vault import KeyStore


@pytest.fixture
def settings(place: Place, monkeypatch: pytest.MonkeyPatch) -> AzureSettings:
    monkeypatch.setenv("MLOPS_AZURE_KEY_VAULT", place.loopback.url)
    return AzureSettings.load()


@pytest.fixture
def keys(settings: AzureSettings) -> KeyStore:
    return KeyStore(vault_client(settings))


def test_keys_are_made_once_and_renewed_one_by_one(keys: KeyStore, cloud: EmulatedCloud) -> None:
    assert not keys.exist("textile")
    made = keys.ensure("textile")
    assert keys.exist("textile")
    assert keys.ensure("textile") == keys.read("textile") == made
    assert len(set(made.values.values())) == 2
    assert min(map(len, made.values.values())) >= 43, "32 random bytes"
    assert made.values["primary"] not in repr(made)
    assert made.values["secondary"] not in str(made)
    assert made.to_file().splitlines() == list(made.values.values())
    renewed = keys.renew("textile", "secondary")
    assert (renewed.values["primary"], renewed.versions["primary"]) == (
        made.values["primary"],
        made.versions["primary"],
    )
    assert made.values["secondary"] != renewed.values["secondary"]
    assert made.versions["secondary"] != renewed.versions["secondary"]
    assert len(cloud.vault.secrets["mlops-textile-secondary"]) == 2
    back = keys.put_back("textile", "secondary", made)
    assert back.values == made.values
    assert back.versions != made.versions


def test_a_deleted_key_is_recovered_before_it_gets_a_new_value(keys: KeyStore, cloud: EmulatedCloud) -> None:
    old = keys.ensure("textile")
    keys.delete("textile")
    keys.delete("textile")
    assert (cloud.vault.secrets, sorted(cloud.vault.deleted)) == (
        {},
        ["mlops-textile-primary", "mlops-textile-secondary"],
    )
    with pytest.raises(AzureError, match="has no secret 'mlops-textile-primary'"):
        keys.read("textile")
    new = keys.ensure("textile")
    assert cloud.vault.deleted == {}
    assert not set(old.values.values()) & set(new.values.values())


def test_refusals_name_the_role_and_no_key(keys: KeyStore, cloud: EmulatedCloud) -> None:
    made = keys.ensure("textile")
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: keys.read("textile"),
        "set": lambda: keys.renew("textile", "primary"),
        "delete": lambda: keys.delete("textile"),
    }
    for action, call in calls.items():
        cloud.vault.deny(action)
        with pytest.raises(AzureError, match=r"HTTP 403 Forbidden.*\n.*Key Vault Secrets Officer") as caught:
            call()
        assert made.values["primary"] not in str(caught.value)


def test_tokens_are_for_the_vault_alone(settings: AzureSettings, cloud: EmulatedCloud) -> None:
    foreign = KeyStore(vault_client(settings, LoopbackCredential(audience=cloud.url)))
    with pytest.raises(AzureError, match="HTTP 401"):
        foreign.ensure("textile")
    assert cloud.vault.secrets == {}
    with pytest.raises(ConfigError, match="MLOPS_AZURE_KEY_VAULT is not set"):
        vault_client(settings.model_copy(update={"key_vault": None}))
