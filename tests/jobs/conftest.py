"""A bucket that is a folder."""

import importlib

import pytest
from etils import epath
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """gs://bucket is the folder `bucket`: objects, no renames and no locks."""

    class Bucket(DirFileSystem):
        protocol = ("gs", "gcs")

        def __init__(self, **_):
            super().__init__(str(tmp_path), LocalFileSystem(auto_mkdir=True))

        @classmethod
        def _strip_protocol(cls, path):
            return str(path).removeprefix("gs://").removeprefix("/gs/").strip("/")

    # fsspec.registry is the view of this dictionary, and hides the module
    known = importlib.import_module("fsspec.registry")._registry
    for name in Bucket.protocol:
        monkeypatch.setitem(known, name, Bucket)
    epath.backend.fsspec_backend._get_filesystem.cache_clear()
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"
