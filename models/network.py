"""A network of the next event (DeepLog, LogAnomaly) as the online path runs it: an ONNX graph, one thread.

The last ``window`` events in, the chances of the next one out, for many windows a call. Trained and written by
``training.deeplog`` and ``training.loganomaly``.
"""

import numpy as np
import onnxruntime

from models.base import Floats, ModelError
from models.sessions import Ints

FILE = "model.onnx"
BATCH = 1024
"""Contexts a call: the LSTM's states of more do not fit the processor's cache."""


class Network:
    """The trained model: contexts [m, window] in, log chances [m, entries] out.

    Args:
        graph: As ``training.next_event`` writes it.
        name: Of its kind, and of its detections.

    Raises:
        ModelError: The bytes are no graph that can be run.
    """

    def __init__(self, graph: bytes, name: str) -> None:
        self.name = name
        options = onnxruntime.SessionOptions()
        # Flink gives a worker one core; more threads would only wait for each other.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._graph = graph
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            (contexts,), (answer,) = self._session.get_inputs(), self._session.get_outputs()
            self.window, self.entries = int(contexts.shape[1]), int(answer.shape[1])
        except Exception as error:  # onnxruntime's errors have no common class but this
            raise ModelError(f"{FILE} cannot be run: {error}") from error
        self._input = contexts.name

    def log_probabilities(self, contexts: Ints) -> Floats:
        """See ``SequenceModel.log_probabilities``."""
        parts = [
            self._session.run(None, {self._input: np.ascontiguousarray(contexts[start : start + BATCH])})[0]
            for start in range(0, len(contexts), BATCH)
        ]
        if not parts:
            return np.zeros((0, self.entries), dtype=np.float32)
        answer: Floats = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return answer

    def files(self) -> dict[str, bytes]:
        """See ``SequenceModel.files``."""
        return {FILE: self._graph}
