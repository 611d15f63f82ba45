"""The ensemble of services as one more model of the field: what its detectors say together of a whole session."""

from collections.abc import Sequence

from contracts.service import BudgetOptions
from models.finished import Sessions
from training.sequence_bench import ENDLESS_MS, sessions_of
from training.session_bench import Learnt, ensemble_of
from training.simple import Line, Model, Numbers


class Combined(Model):
    """``models.ensemble`` over all detectors of whole sessions (``docs/detectors.md``), frozen.

    The benchmark's sessions have neither times nor levels: what looks at these alone says nothing here.
    """

    name = "ensemble"

    def learn(self, lines: Sequence[Line]) -> None:
        """Learn the older four fifths, calibrate on the newest fifth and learn it too."""
        self._id = {template: i + 1 for i, template in enumerate({one: 0 for line in lines for one in line})}
        self._ensemble = ensemble_of(
            Learnt.of(self._sessions(lines, "learnt"), ENDLESS_MS), BudgetOptions().false_alarm_rate
        )

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Rarity in nats: [n]."""
        rarity: Numbers = self._ensemble.judge(self._sessions(lines, "asked")).ensemble
        return rarity

    def _sessions(self, lines: Sequence[Line], prefix: str) -> Sessions:
        numbers = [tuple(self._id.setdefault(one, len(self._id) + 1) for one in line) for line in lines]
        return sessions_of(numbers, {}, prefix)
