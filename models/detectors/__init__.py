"""The detectors there are, by what they judge: to add one is a file here and a line below."""

from models.detector import Detector
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
)
"""Of finished sessions (``models.finished``)."""
