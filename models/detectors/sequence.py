"""A trained model of the next event (DeepLog, n-gram) as a detector of finished sessions.

Du, Li, Zheng, Srikumar: DeepLog, CCS 2017, section 3.1, by likelihood instead of top-g. The model comes with a
bundle and does not learn here; what was learnt is the bundle's, the state holds its version.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.base import expected
from models.bundle import Bundle
from models.counts import Counts
from models.detector import MAX_PARTS, Detector, Evidence, Numbers, Part
from models.detectors.order import FEW
from models.finished import Sessions
from models.memory import window_hashes
from models.sessions import PADDING, Ids
from models.templates import distinct


class Sequence(Detector[Sessions]):
    """Strangeness: surprise of the session's most surprising event, nats; 0 without a bundle.

    On HDFS the likelihood of the whole session, in sum or on average, finds less (F1 .35 and .51 where the worst event
    gives .56, half learnt): long sessions are no stranger than short ones.
    """

    name = "sequence"
    aspect = "order"
    is_share = True

    def __init__(self, bundle: Bundle | None = None) -> None:
        super().__init__()
        self._bundle = bundle
        self._bags = Counts()  # of the sessions learnt

    def learn(self, items: Sessions) -> None:
        """Count which sessions are common; the model itself is trained elsewhere."""
        self._bags.add(items.bags())

    def strangeness(self, items: Sessions) -> Numbers:
        """See ``Detector.strangeness``."""
        if not len(items) or self._bundle is None:
            return np.zeros(len(items))
        worst: Numbers = np.maximum.reduceat(self._surprises(self._bundle, items), items.starts[:-1])
        known = self._bags.of(items.bags())
        worst[(known > 0) & (known < FEW)] = 0.0
        return worst

    def explain(self, items: Sessions, row: int) -> Evidence:
        """What was expected at the most surprising event, and what came."""
        one = items.take(np.array([row]))
        if self._bundle is None:
            return Evidence(self.name, "unlikely", "chance", ())
        surprises = self._surprises(self._bundle, one)
        event = int(surprises.argmax())
        known = self._bundle.vocabulary
        contexts = known.indices(_contexts(one, self._bundle.manifest.window)[event : event + 1])
        (likeliest,) = expected(self._bundle.model, contexts, MAX_PARTS - 1)
        came = int(one.templates[event])
        usual = (Part(known.template(index), 0.0, chance) for index, chance in likeliest)
        parts = (Part(came, 1.0, float(np.exp(-surprises[event]))), *(part for part in usual if part.template != came))
        return Evidence(self.name, "unlikely", "chance", parts, event=event)

    def merge(self, other: Self) -> None:
        """See ``Detector.merge``."""
        self._bags.merge(other._bags)
        self.tail.merge(other.tail)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """See ``Detector.columns``."""
        return {"bundle": np.frombuffer(self._version(), dtype=np.uint8), **self._bags.columns("bags")}

    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """See ``Detector.restore``."""
        version = columns["bundle"].tobytes()
        if version != self._version():
            raise ValueError(f"made with bundle {version.decode(errors='replace')}, not {self._version().decode()}")
        self._bags.restore("bags", columns)

    def _version(self) -> bytes:
        return self._bundle.manifest.version.encode() if self._bundle is not None else b""

    def _surprises(self, bundle: Bundle, items: Sessions) -> Numbers:
        """[e] Surprise of each event, nats; windows that are equal are judged once."""
        contexts = _contexts(items, bundle.manifest.window)
        rows, where, _ = distinct(window_hashes(contexts, items.templates))
        surprises: Numbers = bundle.judge(contexts[rows], items.templates[rows]).surprises[where].astype(np.float64)
        return surprises


def _contexts(items: Sessions, window: int) -> Ids:
    """What came before each event in its session: [e, window], oldest first."""
    nth = np.arange(len(items.templates)) - items.starts[:-1][items.owners]
    contexts = np.full((len(nth), window), PADDING, dtype=np.uint64)
    for k in range(1, window + 1):
        contexts[k:, window - k] = items.templates[:-k]
        contexts[nth < k, window - k] = PADDING
    return contexts
