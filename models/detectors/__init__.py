"""The detectors there are, by what they judge: to add one is a file here, a line below, and its name in the settings.

session_detectors(("count_vector", "order"))    # new ones, which know nothing yet
"""

from collections.abc import Sequence

from contracts.service import DetectorOptions, SessionDetector
from models.detector import Detector
from models.detectors.autoencoder import Autoencoder
from models.detectors.count_vector import CountVector
from models.detectors.missing import MissingEvent
from models.detectors.new_template import NewTemplate
from models.detectors.order import Order
from models.detectors.principal import PrincipalComponents
from models.detectors.severity import Severity
from models.detectors.timing import Timing
from models.finished import Sessions

SESSION_DETECTORS: tuple[type[Detector[Sessions]], ...] = (
    NewTemplate,
    CountVector,
    PrincipalComponents,
    Order,
    MissingEvent,
    Timing,
    Severity,
    Autoencoder,
)
"""Of finished sessions (``models.finished``); a service has those that its settings name."""


def session_detectors(
    names: Sequence[SessionDetector] = DetectorOptions().session_detectors,
) -> list[Detector[Sessions]]:
    """Make new detectors of whole sessions, in the order of their names."""
    by_name = {kind.name: kind for kind in SESSION_DETECTORS}
    return [by_name[name]() for name in names]
