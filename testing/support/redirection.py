"""Send the real SDK's uploads to the emulator's storage, which takes a change inside the SDK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.loopback import CLOUD_NAME, metadata


@contextmanager
def redirected(cloud: EmulatedCloud) -> Iterator[None]:
    """Let the SDK know the loopback cloud, and send its uploads to Azurite; undone at the end.

    The SDK makes the address of a storage account from a template with https and the account as host; Azurite's has the
    account in its path. It also keeps the headers of an invocation in one dictionary, and sends them with the next one too.
    """
    from azure.ai.ml import _azure_environments as environments
    from azure.ai.ml.constants import _common as constants
    from azure.ai.ml.constants._endpoint import EndpointInvokeFields

    headers = EndpointInvokeFields.DEFAULT_HEADER
    sent = dict(headers)
    urls, clouds = constants.STORAGE_ACCOUNT_URLS, environments._environments
    before = urls["AzureBlob"]
    urls["AzureBlob"] = cloud.blobs.account_url
    clouds[CLOUD_NAME] = metadata(cloud)
    try:
        yield
    finally:
        urls["AzureBlob"] = before
        headers.clear()
        headers.update(sent)
        del clouds[CLOUD_NAME]
