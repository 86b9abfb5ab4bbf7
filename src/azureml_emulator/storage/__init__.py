"""The storage account: Azurite, and folders of blobs in it."""
