"""The offline path: archive, data set, training, calibration, evaluation, publishing; the benchmarks."""
