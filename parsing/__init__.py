"""Line to event: formats, masks, sessions, template miner, catalogue. Knows nothing of Flink or Kafka."""
