"""Detectors behind one contract, the bundle, the registry. Knows nothing of Flink or Kafka."""
