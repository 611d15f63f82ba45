"""The bundle: a service's model, vocabulary and calibration as one immutable version, checked before it is used.

    bundle = seal(manifest, vocabulary, model)
    bundle.write(files, folder)
    bundle = Bundle.read(files, folder)        # BundleError says why not

A folder holds ``manifest.json`` (written last: without it there is no bundle), ``vocabulary.json`` and the model.
Nothing in it is code; nothing is unpickled.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from pydantic import ValidationError

from contracts.bundle import BUNDLE_FORMAT, FileEntry, Manifest, VocabularyEntry
from models import network, ngram
from models.base import Judgement, SequenceModel, judge
from models.calibration import Calibrated
from models.detectors import session_detectors
from models.encoding import StateError
from models.ensemble import Ensemble
from models.finished import Sessions
from models.sessions import Ids
from models.vocabulary import Vocabulary
from storage.files import Files

MANIFEST = "manifest.json"
ENSEMBLE = "ensemble.bin"
VOCABULARY = "vocabulary.json"
NO_VERSION = "00000000T000000-00000000"
"""Version of a manifest that ``seal`` has not seen yet."""


class BundleError(Exception):
    """A bundle that is not there, damaged, or made by a newer release; the message says which, and what to do."""


@dataclass(frozen=True, eq=False, slots=True)
class Bundle:
    """Everything a service needs to be scored."""

    manifest: Manifest
    vocabulary: Vocabulary
    model: SequenceModel
    ensemble: bytes = b""
    """The detectors of whole sessions, learnt and calibrated (``models.ensemble``); empty: there are none."""

    @property
    def false_alarm_rate(self) -> float:
        """What each of the bundle's judges may raise of normal sessions: the budget, shared where there are two."""
        return self.rate_each(self.manifest.settings.budget.false_alarm_rate)

    def rate_each(self, accepted: float) -> float:
        """What each of the bundle's judges may raise, where a share of normal sessions is accepted of all together."""
        return accepted / (2 if self.ensemble else 1)

    def detectors(self) -> Ensemble[Sessions]:
        """A new ensemble as the bundle has it, to be judged with and taught.

        Raises:
            StateError: It is damaged, of another format or of other detectors than the manifest names.
        """
        names = self.manifest.settings.detector.session_detectors
        ensemble = Ensemble(session_detectors(names), self.false_alarm_rate)
        ensemble.load(self.ensemble)
        return ensemble

    def judge(self, contexts: Ids, targets: Ids) -> Judgement:
        """Say how surprising each target is: template ids [n, window] and [n]."""
        known = self.vocabulary
        return judge(self.model, known.indices(contexts), known.indices(targets), self.manifest.unseen_log_probability)

    def calibrated(self, kind: str) -> Calibrated:
        """The calibration of ``session`` or ``stream``; the other where held-back time had none of the kind.

        Raises:
            BundleError: The calibration is damaged, or there is none.
        """
        of_kind = sorted(self.manifest.calibration, key=lambda one: one.kind != kind)
        if not of_kind:
            raise BundleError(f"bundle {self.manifest.version} has no calibration: train it again")
        try:
            made = Calibrated(of_kind[0], self.false_alarm_rate, -self.manifest.unseen_log_probability)
        except ValueError as error:
            raise BundleError(f"bundle {self.manifest.version} is damaged: {error}") from error
        if (by_hand := self.manifest.bars.get(of_kind[0].kind)) is not None:
            made.set_bar(by_hand)
        return made

    def files(self) -> dict[str, bytes]:
        """All its files but the manifest."""
        ensemble = {ENSEMBLE: self.ensemble} if self.ensemble else {}
        return {VOCABULARY: _write_vocabulary(self.vocabulary), **self.model.files(), **ensemble}

    def write(self, files: Files, folder: str) -> None:
        """Write it to a new folder, the manifest last.

        Raises:
            FileExistsError: There is one already; bundles never change.
            StorageError: The store does not answer.
        """
        if files.exists(f"{folder}/{MANIFEST}"):
            raise FileExistsError(f"{folder} holds a bundle already")
        for name, data in self.files().items():
            files.write(f"{folder}/{name}", data)
        files.write(f"{folder}/{MANIFEST}", self.manifest.model_dump_json(indent=1).encode())

    @classmethod
    def read(cls, files: Files, folder: str) -> "Bundle":
        """Read and check a bundle.

        Raises:
            BundleError: It is not there, damaged, or made by a newer release.
            StorageError: The store does not answer: try again.
        """
        manifest = read_manifest(files, folder)
        contents = {entry.name: _read_file(files, folder, entry) for entry in manifest.files}
        try:
            vocabulary = _read_vocabulary(contents[VOCABULARY])
            model = _read_model(manifest, contents)
        except KeyError as error:
            raise BundleError(f"bundle {folder} is damaged: its manifest names no {error.args[0]}") from error
        except ValueError as error:
            raise BundleError(f"bundle {folder} is damaged: {error}") from error
        if model.entries != len(vocabulary):
            sizes = f"{len(vocabulary)} templates in the vocabulary, {model.entries} in the model"
            raise BundleError(f"bundle {folder} is damaged: {sizes}")
        bundle = cls(manifest, vocabulary, model, contents.get(ENSEMBLE, b""))
        bundle.calibrated("session")
        try:
            if bundle.ensemble:
                bundle.detectors()
        except StateError as error:
            raise BundleError(f"bundle {folder} is damaged: {ENSEMBLE}: {error}") from error
        return bundle


def seal(manifest: Manifest, vocabulary: Vocabulary, model: SequenceModel, ensemble: bytes = b"") -> Bundle:
    """Make a bundle: puts the files' hashes and sizes into the manifest, and the version that follows from them."""
    entries = tuple(
        FileEntry(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in Bundle(manifest, vocabulary, model, ensemble).files().items()
    )
    made = manifest.model_copy(update={"files": entries, "version": NO_VERSION})
    digest = hashlib.sha256(made.model_dump_json().encode()).hexdigest()
    moment = datetime.fromtimestamp(manifest.created_ms / 1000, tz=UTC)
    name = f"{moment:%Y%m%dT%H%M%S}-{digest[:8]}"
    return Bundle(made.model_copy(update={"version": name}), vocabulary, model, ensemble)


def code_version() -> str:
    """The release this code belongs to."""
    try:
        return version("logcanary")
    except PackageNotFoundError:
        return "unknown"


def read_manifest(files: Files, folder: str) -> Manifest:
    """What a bundle says of itself; its other files are not looked at.

    Raises:
        BundleError: it is not there, damaged, or made by a newer release.
        StorageError: the store does not answer.
    """
    try:
        data = json.loads(files.read(f"{folder}/{MANIFEST}"))
        made = data["format"]
    except FileNotFoundError as error:
        raise BundleError(f"there is no bundle at {folder}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"bundle {folder} is damaged: {MANIFEST} cannot be read ({error})") from error
    if made != BUNDLE_FORMAT:
        raise BundleError(
            f"bundle {folder} is of format {made}, this release reads {BUNDLE_FORMAT}: update the job, or train again"
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        raise BundleError(
            f"bundle {folder} is damaged: {error.errors()[0]['loc']} {error.errors()[0]['msg']}"
        ) from error


def _read_file(files: Files, folder: str, entry: FileEntry) -> bytes:
    try:
        data = files.read(f"{folder}/{entry.name}")
    except FileNotFoundError as error:
        raise BundleError(f"bundle {folder} is damaged: {entry.name} is missing") from error
    if len(data) != entry.size:
        raise BundleError(f"bundle {folder} is damaged: {entry.name} has {len(data)} bytes instead of {entry.size}")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(f"bundle {folder} is damaged: {entry.name} does not have the hash of the manifest")
    return data


def _read_model(manifest: Manifest, contents: dict[str, bytes]) -> SequenceModel:
    if manifest.settings.detector.kind == "ngram":
        return ngram.NGram.read(contents[ngram.FILE])
    model = network.Network(contents[network.FILE], manifest.settings.detector.kind)
    if model.window != manifest.window:
        raise ValueError(f"window {manifest.window} in the manifest, {model.window} in the model")
    return model


def _write_vocabulary(vocabulary: Vocabulary) -> bytes:
    entries = [entry.model_dump() for entry in vocabulary.entries]
    return json.dumps({"entries": entries}, ensure_ascii=False, indent=0).encode()


def _read_vocabulary(data: bytes) -> Vocabulary:
    try:
        return Vocabulary(VocabularyEntry.model_validate(entry) for entry in json.loads(data)["entries"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{VOCABULARY} cannot be read ({error!r})") from error
