"""What is never removed from storage; that a folder is, the tests of automl-images show."""

from __future__ import annotations

import pytest

from vision_mlops.core.errors import DataError
from vision_mlops.storage import BlobFolder, remove
from vision_mlops.storage.sign_in import SharedAccessSignature


def test_a_whole_container_is_not_removed() -> None:
    place = BlobFolder("https://a.blob.core.windows.net", "photos", "", SharedAccessSignature("sig=s", "test"))
    with pytest.raises(DataError, match="photos cannot be removed as a whole"):
        remove(place)
