"""Every model of the field that the benchmark compares, by its name."""

from training.classical import InvariantMining, IsolationForest, LogClustering
from training.combined import Combined
from training.deep import Cnn, CnnOnKeys, LogRobust, Mlp, MlpOnKeys
from training.forecasting import DeepLog, LogAnomaly, Transformer
from training.reconstructing import Autoencoder, AutoencoderIforest
from training.simple import CountVector, EditDistance, Length, Model, NewTemplate, Ngram, Pca
from training.supervised import DecisionTree, LogisticRegression, Supervised, Svm

_SIMPLE: tuple[type[Model], ...] = (NewTemplate, Length, CountVector, Ngram, EditDistance, Pca, Combined)
_CLASSICAL: tuple[type[Model], ...] = (IsolationForest, LogClustering, InvariantMining)
_DEEP: tuple[type[Model], ...] = (DeepLog, LogAnomaly, Transformer, Autoencoder, AutoencoderIforest)

MODELS: dict[str, type[Model]] = {kind.name: kind for kind in (*_SIMPLE, *_CLASSICAL, *_DEEP)}
"""What learns from normal sessions alone."""
SUPERVISED: dict[str, type[Supervised]] = {
    kind.name: kind for kind in (DecisionTree, LogisticRegression, Svm, Cnn, CnnOnKeys, Mlp, MlpOnKeys, LogRobust)
}
"""What learns from labels."""
KINDS: dict[str, type[Model]] = {**MODELS, **SUPERVISED}
"""All of them."""
