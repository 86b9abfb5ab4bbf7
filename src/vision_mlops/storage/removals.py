"""A folder in storage is removed, with all that is in it."""

from __future__ import annotations

from vision_mlops.core.errors import DataError
from vision_mlops.storage.attempts import StorageRetryPolicy
from vision_mlops.storage.blob_folder import BlobFolder
from vision_mlops.storage.transfer import BLOCK, Transfer
from vision_mlops.storage.transfer_summary import TransferSummary
from vision_mlops.storage.uploads import delete_blobs


def remove(
    place: BlobFolder, *, jobs: int | None = None, patience: StorageRetryPolicy | None = None
) -> TransferSummary:
    """Remove all files of a folder; one that holds none is fine.

    Args:
        place: The folder, see :func:`~vision_mlops.storage.locations.locate`; not a container or datastore as a whole.
        jobs: Requests at once.
        patience: How long requests are tried.

    Returns:
        What was removed. ``failures`` is not empty where files are still there.

    Raises:
        DataError: no folder is named.
        RefusalError: there is no such container or no right to it, or storage is not reached (any more).
    """
    if not place.path:
        raise DataError(f"{place.url} as a whole is not removed", "name a folder in it")
    summary = TransferSummary("upload", place.url, "")
    with Transfer(summary, place, jobs, BLOCK, patience, None) as transfer:
        delete_blobs(transfer, transfer.list().result())
    return summary
