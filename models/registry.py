"""The registry: all bundles of all services, immutable, by version.

    <root>/registry/<service>/<version>/{manifest.json, vocabulary.json, model.onnx | ngram.arrow}

Which one is live is on the control topic (``contracts.records.BundlePointer``), not here: moving a pointer is a record
with author and reason, and going back is moving it again.
"""

import re

from contracts.bundle import Manifest
from contracts.settings import AppSettings
from models.bundle import MANIFEST, Bundle, BundleError, read_manifest
from storage.files import Files, open_files

_version = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")


class Registry:
    """The bundles below ``<root>/registry``."""

    def __init__(self, files: Files, root: str) -> None:
        self._files = files
        self._root = f"{root.rstrip('/')}/registry"

    @classmethod
    def of(cls, settings: AppSettings) -> "Registry":
        """The one that the settings name."""
        return cls(open_files(settings.hdfs), settings.hdfs.root)

    def folder(self, service: str, version: str) -> str:
        """Where a version lies."""
        return f"{self.home(service)}/{version}"

    def home(self, service: str) -> str:
        """Where the versions of a service lie."""
        return f"{self._root}/{service}"

    def publish(self, bundle: Bundle) -> str:
        """Write a bundle; returns its version.

        Raises:
            FileExistsError: The version is there already.
            StorageError: The store does not answer.
        """
        version = bundle.manifest.version
        bundle.write(self._files, self.folder(bundle.manifest.service, version))
        return version

    def load(self, service: str, version: str) -> Bundle:
        """Read and check a version.

        Raises:
            BundleError: It is not there, damaged, made by a newer release, or another service's.
            StorageError: The store does not answer: try again.
        """
        if not _version.fullmatch(version):
            raise BundleError(f"{version!r} is no version of a bundle (YYYYMMDDTHHMMSS-xxxxxxxx)")
        folder = self.folder(service, version)
        bundle = Bundle.read(self._files, folder)
        made = bundle.manifest
        if (made.service, made.version) != (service, version):
            raise BundleError(f"{folder} holds bundle {made.version} of service {made.service}")
        return bundle

    def manifest(self, service: str, version: str) -> Manifest:
        """What a version says of itself, without reading its model.

        Raises:
            BundleError: It is not there, damaged, or made by a newer release.
            StorageError: The store does not answer: try again.
        """
        return read_manifest(self._files, self.folder(service, version))

    def services(self) -> list[str]:
        """The services that have bundles, by name.

        Raises:
            StorageError: The store does not answer.
        """
        return [entry.name for entry in self._files.list(self._root) if entry.is_dir]

    def versions(self, service: str) -> list[str]:
        """The complete versions of a service, oldest first.

        Raises:
            StorageError: The store does not answer.
        """
        entries = self._files.list(self.home(service))
        names = [entry.name for entry in entries if entry.is_dir and _version.fullmatch(entry.name)]
        return [name for name in sorted(names) if self._files.exists(f"{self.folder(service, name)}/{MANIFEST}")]
