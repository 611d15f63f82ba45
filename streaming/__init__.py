"""The online path: Flink graph and its thin operators, archiver, exporter."""
