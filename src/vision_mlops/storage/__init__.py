"""Folders of files in Azure Blob Storage: upload and download, by content, in parallel, and so that they can be repeated.

    place = storage.locate("azureml://datastores/workspaceblobstore/paths/photos", settings)
    summary = storage.upload(Path("photos"), place)

Nothing of the Azure SDK is imported before a sign-in or a datastore needs it.
"""

from vision_mlops.storage.blob_folder import BlobFolder
from vision_mlops.storage.downloads import download
from vision_mlops.storage.locations import locate
from vision_mlops.storage.transfer_summary import Count, Progress, TransferSummary
from vision_mlops.storage.uploads import remove, upload

__all__ = ["BlobFolder", "Count", "Progress", "TransferSummary", "download", "locate", "remove", "upload"]
