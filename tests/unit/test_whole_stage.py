"""Whole sessions in the stage: judged once they are over, the same ids however lines come, learnt late, explained."""

import json
from dataclasses import replace

import numpy as np
import pytest

from contracts.records import BundlePointer, Settings
from contracts.service import BudgetOptions, DetectorOptions, ServiceSettings, SessionOptions
from contracts.settings import AppSettings, FlinkOptions
from models.alerts import group
from models.bundle import Bundle, BundleError, seal
from models.explaining import explain_finding
from models.learning import MIN_SESSIONS, LearnError, fit_ngram, learn
from models.verdicts import verdict_on
from parsing.events import Lines
from storage.control import ControlView, key_of
from storage.files import LocalFiles
from streaming.buckets import Bucket, Saved
from streaming.bundles import Bundles
from streaming.stages import ParseStage, ScoreStage
from tests.packing import pack
from training import learner
from training.dataset import build

SERVICE = "shop"
OPTIONS = ServiceSettings(
    service=SERVICE,
    session=SessionOptions(by="identifier", pattern=r"order ([0-9]+)", gap_seconds=60),
    detector=DetectorOptions(kind="ngram", window=4, learning="off"),
)
APP = AppSettings(flink=FlinkOptions(buckets=1))
T0 = 1_700_000_000_000
EVERY_MS = 2_000
STEPS = (
    "request received for order {}",
    "stock of order {} checked",
    "payment of order {} taken",
    "order {} handed over",
)
LEARNT, SHOWN = 400, 200
ODD = {10_030: 5, 10_090: 7}
"""Orders whose stock is checked so often; once or twice is normal."""


def order(number, begin_ms, checks):
    steps = [STEPS[0], *[STEPS[1]] * checks, *STEPS[2:]]
    return [(begin_ms + 300 * i, step.format(number)) for i, step in enumerate(steps)]


def log(first, count, odd=(), start=0):
    """Time-ordered lines of orders, and one long after them: all orders are over."""
    rows = [
        row
        for i in range(count)
        for row in order(first + i, T0 + start + i * EVERY_MS, dict(odd).get(first + i, 1 + i % 2))
    ]
    rows.append((T0 + start + count * EVERY_MS + 3_600_000, "nothing more today, said nobody"))
    return [
        (at, f"{np.datetime64(at, 'ms').astype(object):%Y-%m-%d %H:%M:%S.%f} INFO {text}") for at, text in sorted(rows)
    ]


def lines_of(rows, first=0, service=SERVICE):
    arrivals = np.array([at for at, _ in rows])
    return Lines.from_list(
        service, f"logs.{service}", 0, np.arange(first, first + len(rows)), arrivals, [t.encode() for _, t in rows]
    )


def bundle_of(options=OPTIONS, count=LEARNT):
    data = build([lines_of(log(1_000, count), service=options.service)], options)
    return learn(data.material, options, fit_ngram, created_ms=T0, sessions=data.sessions)


@pytest.fixture(scope="module")
def bundle():
    return bundle_of()


class Shelf:
    def __init__(self, bundle):
        self.bundle = bundle

    def load(self, service, version):
        return self.bundle


class Run:
    """Lines through both stages, with what Flink would keep."""

    def __init__(self, bundle):
        self.bundle, self.wholes, self.changes, self.found, self.statistics = bundle, {}, {}, [], []
        self.service = bundle.manifest.service
        self.crash()

    def crash(self):
        """Begin anew from what was saved; the parser learns again what it knew."""
        view = ControlView()
        self.parse, self.score = ParseStage(APP, ControlView()), ScoreStage(APP, view, Bundles(Shelf(self.bundle)))
        version = self.bundle.manifest.version
        self.tell(BundlePointer(service=self.service, version=version, author="t", reason="t", moved_ms=1))
        self.parse.control(f"settings/{self.service}", self._settings())
        self.score.control(f"settings/{self.service}", self._settings())

    def tell(self, record):
        self.score.control(key_of(record), record.model_dump_json().encode())

    def feed(self, rows, first=0, step=70):
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            n = len(part)
            offsets = np.arange(first + start, first + start + n)
            columns = np.zeros(n, dtype=np.int64), offsets, np.array([at for at, _ in part])
            ((_, key, frame),) = pack(
                [f"logs.{self.service}"] * n, *columns, [text.encode() for _, text in part], 65_536
            )
            for bucket, data in self.parse.parse(key, frame, lambda: None).events:
                self._keep(bucket, self.score.score(bucket, data, lambda b=bucket: self.saved(b)))
        return self

    def saved(self, bucket):
        return Saved(self.wholes.get(bucket, b""), self.changes.get(bucket, []))

    def _keep(self, bucket, out):
        if out.whole is not None:
            self.wholes[bucket], self.changes[bucket] = out.whole, []
        elif out.change is not None:
            self.changes.setdefault(bucket, []).append(out.change)
        self.found += out.detections
        self.statistics += out.statistics

    def _settings(self):
        return Settings(settings=self.bundle.manifest.settings).model_dump_json().encode()

    @property
    def whole(self):
        return [one for one in self.found if one.kind == "session"]

    def count(self, name):
        return sum(getattr(one, name) for one in self.statistics)


SHOWN_LOG = log(10_000, SHOWN, ODD, start=10**7)


def test_the_odd_sessions_are_found_as_a_whole_and_the_others_are_not(bundle):
    run = Run(bundle).feed(SHOWN_LOG)
    assert {one.session for one in run.whole} == {f"{number}" for number in ODD}
    assert run.count("sessions_judged") == SHOWN
    assert run.count("sessions_passed") == run.count("sessions_learnt") == 0
    for one in run.whole:
        assert one.reasons[0].detector == one.detector
        assert one.headline == one.reasons[0].sentence
        assert "stock of order" in " ".join(part.text for why in one.reasons for part in why.parts)
        assert one.line.endswith(f"order {one.session} handed over")
        assert one.score > one.threshold
        assert len(one.before) == 3 + ODD[int(one.session)]


def test_ids_do_not_depend_on_batches_nor_on_a_crash(bundle):
    wanted = {one.id for one in Run(bundle).feed(SHOWN_LOG).found}
    for step in (13, 10_000):
        assert {one.id for one in Run(bundle).feed(SHOWN_LOG, step=step).found} == wanted
    run, half = Run(bundle).feed(SHOWN_LOG[:410]), len(SHOWN_LOG[:410])
    run.crash()
    run.feed(SHOWN_LOG[half:], half)
    assert {one.id for one in run.found} == wanted
    assert run.count("sessions_judged") == SHOWN


def test_what_was_normal_is_learnt_late_and_comes_back_with_the_state():
    options = OPTIONS.model_copy(update={"detector": OPTIONS.detector.model_copy(update={"learning": "on"})})
    run = Run(bundle_of(options))
    rows = [*log(10_000, 600, start=10**7)[:-1], *log(20_000, 600, start=2 * 10**7)]
    run.feed(rows, step=300)
    learnt = run.count("sessions_learnt")
    assert 500 < learnt < 1_200
    buckets = [bucket for bucket in run.wholes if run.wholes[bucket]]
    assert buckets
    restored = Bucket.restored(run.saved(buckets[0]), 4, options.session)
    scorer = run.score._bundles.of(SERVICE, [run.bundle.manifest.version], {}).scorer
    judge = restored.judge(scorer)
    assert judge is not None
    assert judge._running.ensemble.dump() != run.bundle.ensemble
    # It has learnt nothing since, and what it knew is in the next whole all the same.
    restored.resize(4, options.session)
    whole, _ = restored.save()
    again = Bucket.restored(Saved(whole, []), 4, options.session).judge(scorer)
    assert again.dump() == judge.dump() == judge._running.dump()


def test_an_accepted_kind_is_not_raised(bundle):
    first = Run(bundle).feed(SHOWN_LOG).whole[0]
    run = Run(bundle)
    run.tell(verdict_on(first, "false-positive", "t", "t", 1, scope="signature"))
    run.feed(SHOWN_LOG)
    assert first.signature not in {one.signature for one in run.whole}
    assert run.count("suppressed") >= 1


def test_it_is_explained_by_what_its_detectors_say(bundle):
    found = Run(bundle).feed(SHOWN_LOG).whole[0]
    told = explain_finding(found, group([found])[0])
    assert told.sentences()[0].startswith("The session is over, and as a whole it is rare: ")
    assert [why.sentence for why in found.reasons] == told.sentences()[-len(found.reasons) :]
    assert [step.text for step in told.steps] == [one.text for one in found.before]


def test_without_detectors_in_the_bundle_nothing_is_kept_and_nothing_judged(bundle):
    bare = seal(bundle.manifest, bundle.vocabulary, bundle.model)
    run = Run(bare).feed(SHOWN_LOG)
    assert run.whole == []
    assert run.count("sessions_judged") == run.count("sessions_passed") == 0
    assert bare.false_alarm_rate == 2 * bundle.false_alarm_rate == OPTIONS.budget.false_alarm_rate


def test_detectors_that_fail_cost_the_service_its_scores_and_say_so(bundle):
    run = Run(replace(bundle, ensemble=b"no detectors")).feed(SHOWN_LOG[:100])
    assert run.found == []
    assert all("scoring failed" in one.bundle_refused and not one.bundle for one in run.statistics)


def test_a_bundle_keeps_its_detectors_and_a_damaged_one_is_refused(bundle, tmp_path):
    files = LocalFiles(tmp_path)
    bundle.write(files, "/b")
    assert Bundle.read(files, "/b").ensemble == bundle.ensemble
    again = Bundle.read(files, "/b").detectors()
    assert again.dump() == bundle.ensemble
    seal(bundle.manifest, bundle.vocabulary, bundle.model, bundle.ensemble[:-9]).write(files, "/damaged")
    with pytest.raises(BundleError, match=r"ensemble\.bin"):
        Bundle.read(files, "/damaged")


CHOSEN = ("autoencoder", "count_vector")


@pytest.fixture(scope="module")
def chosen():
    """What a training makes of other choices than the defaults."""
    detector = OPTIONS.detector.model_copy(update={"kind": "loganomaly", "session_detectors": CHOSEN, "epochs": 4})
    budget = BudgetOptions(false_alarm_rate=0.04)  # 80 sessions held back make nothing rarer than 1 in 81
    options = OPTIONS.model_copy(update={"detector": detector, "budget": budget})
    data = build([lines_of(log(1_000, LEARNT))], options)
    said = []
    bundle = learner.learn(data, options, said.append)
    assert said[-1].endswith("whole sessions: autoencoder, count_vector")
    return bundle


def test_only_the_detectors_that_a_service_chose_judge_it_in_the_job(chosen):
    run = Run(chosen).feed(SHOWN_LOG)
    assert {one.session for one in run.whole} == {f"{number}" for number in ODD}
    assert {why.detector for one in run.whole for why in one.reasons} == set(CHOSEN)
    (odd,) = (one for one in run.whole if one.session == "10030")
    told = " ".join(explain_finding(odd, group([odd])[0]).sentences())
    assert 'Compared with the nearest normal session: "stock of order <NUM> checked" 5 times' in told
    assert 'Unlike what an autoencoder gives back of it: "stock of order <NUM> checked" came 5 times, not ' in told
    assert {one.detector for one in run.found if one.kind == "event"} <= {"loganomaly"}


def test_a_bundle_has_the_detectors_it_was_sealed_with(bundle, chosen, tmp_path):
    files = LocalFiles(tmp_path)
    chosen.write(files, "/chosen")
    again = Bundle.read(files, "/chosen")
    assert [one.name for one in again.detectors().detectors] == list(CHOSEN)
    assert again.detectors().dump() == chosen.ensemble
    assert again.model.name == "loganomaly"
    seal(bundle.manifest, chosen.vocabulary, bundle.model, chosen.ensemble).write(files, "/others")
    with pytest.raises(BundleError, match=r"ensemble\.bin: state of detectors autoencoder, count_vector; these are "):
        Bundle.read(files, "/others")


def test_a_bundle_from_before_there_was_a_choice_has_the_seven(bundle, tmp_path):
    files = LocalFiles(tmp_path)
    bundle.write(files, "/old")
    path = tmp_path / "old" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["settings"]["detector"]["session_detectors"]
    path.write_text(json.dumps(manifest))
    assert Bundle.read(files, "/old").detectors().dump() == bundle.ensemble
    assert len(Bundle.read(files, "/old").detectors().detectors) == 7


def test_too_few_sessions_and_a_setting_make_no_detectors():
    assert bundle_of(count=MIN_SESSIONS - 1).ensemble == b""
    off = OPTIONS.model_copy(update={"detector": OPTIONS.detector.model_copy(update={"sessions": "off"})})
    assert bundle_of(off).ensemble == b""
    with pytest.raises(LearnError):
        bundle_of(count=5)


def test_a_release_is_raised_until_it_is_adopted_and_a_fault_that_uses_no_new_line_still_is():
    options = OPTIONS.model_copy(update={"detector": OPTIONS.detector.model_copy(update={"learning": "on"})})
    run = Run(bundle_of(options))
    run.feed(log(10_000, 200, start=10**7)[:-1], step=300)
    assert not run.found
    released = [
        (at, text.replace("payment of", "invoice for")) for at, text in log(20_000, 2_000, {21_900: 9}, 2 * 10**7)
    ]
    run.feed(released, 2_000, step=300)
    raised = {int(one.session) for one in run.found if one.kind == "event"}
    assert set(range(20_000, 20_100)) <= raised, "nobody has said yet that this is normal"
    assert {number for number in raised if number > 20_800} <= {21_900}
    assert run.count("suppressed") > 300
    assert 21_900 in {int(one.session) for one in run.whole}


def test_what_few_of_the_past_did_is_learnt_unless_it_is_doubted():
    def raised(doubt):
        detector = OPTIONS.detector.model_copy(update={"doubt": doubt})
        options = OPTIONS.model_copy(update={"detector": detector})
        past = log(1_000, LEARNT)
        past = [(at, text.replace("taken", "refused twice") if "order 1100 " in text else text) for at, text in past]
        data = build([lines_of(past)], options)
        bundle = learn(data.material, options, fit_ngram, created_ms=T0, sessions=data.sessions)
        shown = [(at, text.replace("taken", "refused twice") if "10050 " in text else text) for at, text in SHOWN_LOG]
        return {one.session for one in Run(bundle).feed(shown).whole}

    assert "10050" not in raised(0.0)
    assert "10050" in raised(0.01)
