"""Retraining on demand: archive to live bundle, for one service."""

import contextlib
import time
from collections.abc import Iterator, Sequence

from contracts.bundle import Manifest
from contracts.records import Template, Training, TrainingOutcome
from contracts.retraining import RetrainingRequest, Run
from contracts.settings import AppSettings
from models.adjusting import recalibrated
from models.bundle import Bundle, BundleError, seal
from models.gating import compare
from models.learning import Say
from models.registry import Registry
from storage.broker import BrokerUnreachableError, KafkaError
from storage.control import ControlWriter, moved_pointer, read_control
from storage.files import Files, open_files
from storage.locks import LockedError, lock
from training import prepared
from training.dataset import Dataset
from training.learner import TrainingError, learn
from training.preparing import Stages, read_dataset
from training.runs import CancelledError, Runs, Tracker


class WorseError(TrainingError):
    """A bundle that is worse than the live one: it is kept in the registry, and not made live."""

    def __init__(self, manifest: Manifest, failed: Sequence[str]) -> None:
        super().__init__(
            f"bundle {manifest.version} of {manifest.service} is kept and not made live: {'; '.join(failed)}. "
            f"`logcanary models promote -s {manifest.service} {manifest.version} --reason ...` makes it live"
        )
        self.manifest = manifest


def train(
    settings: AppSettings,
    request: RetrainingRequest,
    *,
    run: Run | None = None,
    progress: Say = lambda words: None,
    stages: Stages | None = None,
) -> Manifest:
    """Train a service from its archive, publish the bundle, and move the live pointer to it.

    Args:
        settings: where Kafka and HDFS are.
        request: whose lines, of which time, who asks and why.
        run: the record of it, where somebody has begun one already.
        progress: called with each stage in words.
        stages: filled with what each stage took.

    Raises:
        TrainingError: nothing is archived for that time, or too little; somebody trains the service now; it was
            cancelled; or it is worse than the live bundle (``WorseError``).
        LearnError: there is too little to learn from.
        StorageError: HDFS does not answer; nothing was published.
    """
    files = open_files(settings.hdfs)
    home = Registry(files, settings.hdfs.root).home(request.service)
    with Tracker(settings, run or Runs.of(settings).begin(request), progress) as track:
        try:
            with lock(files, f"{home}/training.lock", request.author):
                training = _Training(settings, files, request, track, stages or Stages())
                with _counted(settings, track.run):
                    return training.run()
        except LockedError as error:
            first = error.holder
            raise TrainingError(
                f"{request.service} is being trained already, by {first.who} (process {first.pid} on {first.host}): "
                f"wait until that is done, or cancel it (`logcanary trainings list -s {request.service}`); if that "
                f"process is gone, delete {error.path}"
            ) from None


@contextlib.contextmanager
def _counted(settings: AppSettings, run: Run) -> Iterator[None]:
    """Tell whoever counts trainings that one began, and how it ended."""

    def tell(outcome: TrainingOutcome) -> None:
        with contextlib.suppress(KafkaError, BrokerUnreachableError), ControlWriter(settings) as out:
            out.put(Training(service=run.request.service, id=run.id, outcome=outcome))

    tell("asked")
    outcome: TrainingOutcome = "failed"
    try:
        yield
        outcome = "promoted"
    except WorseError:
        outcome = "refused"
        raise
    except (CancelledError, KeyboardInterrupt):
        outcome = "cancelled"
        raise
    finally:
        tell(outcome)


class _Training:
    """One training, from the archive to the pointer."""

    def __init__(
        self, settings: AppSettings, files: Files, request: RetrainingRequest, track: Tracker, stages: Stages
    ) -> None:
        self._settings, self._files, self._request = settings, files, request
        self._track, self._stages = track, stages
        self._registry = Registry(files, settings.hdfs.root)
        self._control = read_control(settings)

    def run(self) -> Manifest:
        """Read, learn, compare, publish."""
        data = self._prepared()
        self._track.stage("learn")
        began = time.perf_counter()
        bundle = self._learnt(data)
        self._stages.train = time.perf_counter() - began
        bundle = self._compared(bundle, data)
        self._publish(bundle, data.found)
        return bundle.manifest

    def _learnt(self, data: Dataset) -> Bundle:
        service = self._request.service
        if not self._request.recalibrate:
            return learn(data, self._control.settings_of(service), self._track.say)
        live = self._live()
        if live is None:
            raise TrainingError(f"{service} has no live bundle whose thresholds could be set anew: train it")
        self._track.say(f"Keep the model of {live.manifest.version}, set its thresholds by these lines")
        return recalibrated(live, data.material, data.sessions, time.time_ns() // 1_000_000)

    def _prepared(self) -> Dataset:
        """Archived lines to windows, or what a batch job made of them."""
        if self._request.prepared:
            self._track.stage("read")
            self._track.say(f"Take what was prepared as {self._request.prepared}")
            data = prepared.load(self._files, self._settings.hdfs.root, self._request.service, self._request.prepared)
        else:
            data = read_dataset(self._settings, self._request, self._control, self._track, self._stages)
        self._track.update(sanity=data.sanity)
        self._track.say(
            f"{data.material.lines:,} lines ({data.dead:,} unreadable), {len(data.material.templates):,} templates"
        )
        for words in data.sanity.warnings:
            self._track.say(f"Worth a look: {words}")
        return data

    def _compared(self, bundle: Bundle, data: Dataset) -> Bundle:
        """The bundle with what the gate and the look at its lines say."""
        self._track.stage("compare")
        began = time.perf_counter()
        gate = compare(bundle, self._live(), data.material, data.sessions, data.reviewed)
        self._stages.compare = time.perf_counter() - began
        self._track.update(gate=gate)
        self._track.say(
            f"Beside the live bundle {gate.live}: it {'may not' if gate.failed else 'may'} take its place"
            if gate.live
            else "There is no live bundle to compare with"
        )
        made = bundle.manifest.model_copy(update={"gate": gate, "sanity": data.sanity})
        return seal(made, bundle.vocabulary, bundle.model, bundle.ensemble)

    def _live(self) -> Bundle | None:
        pointer = read_control(self._settings).pointers.get(self._request.service)  # it may have moved meanwhile
        if pointer is None:
            return None
        try:
            return self._registry.load(self._request.service, pointer.version)
        except BundleError as error:
            self._track.say(f"The live bundle cannot be compared with: {error}")
            return None

    def _publish(self, bundle: Bundle, found: Sequence[Template]) -> None:
        """The bundle into the registry, then templates and, unless it is worse, the pointer."""
        self._track.stage("publish")
        began = time.perf_counter()
        service, request = self._request.service, self._request
        version = self._registry.publish(bundle)
        self._track.update(version=version)
        self._track.say(f"Published bundle {version}")
        view = read_control(self._settings)
        failed = bundle.manifest.gate.failed if bundle.manifest.gate and not request.insist else ()
        with ControlWriter(self._settings) as out:
            # The templates first: whoever scores with the bundle knows them under the ids it uses.
            known = self._control.templates.get(service, {})
            out.put(*(one for one in found if one.reason == "merged" or one.id not in known))
            if not failed:
                out.put(moved_pointer(view.pointers.get(service), bundle.manifest, request.author, request.reason))
        self._stages.publish = time.perf_counter() - began
        self._track.update(state="kept" if failed else "done", error="; ".join(failed))
        if failed:
            raise WorseError(bundle.manifest, failed)
