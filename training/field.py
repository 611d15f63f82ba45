"""Every model of the field that the benchmark compares, by its name."""

from training.classical import InvariantMining, IsolationForest, LogClustering
from training.combined import Combined
from training.deep import Cnn, CnnOnKeys, LogRobust, Mlp, MlpOnKeys
from training.forecasting import DeepLog, LogAnomaly, Transformer
from training.parameter_values import ParameterValues
from training.reconstructing import Autoencoder, AutoencoderIforest
from training.simple import CountVector, EditDistance, Keywords, Length, Model, NewTemplate, Ngram, Pca
from training.supervised import DecisionTree, LogisticRegression, Supervised, Svm

_SIMPLE: tuple[type[Model], ...] = (NewTemplate, Length, CountVector, Ngram, EditDistance, Pca, Combined)
_CLASSICAL: tuple[type[Model], ...] = (IsolationForest, LogClustering, InvariantMining)
_DEEP: tuple[type[Model], ...] = (DeepLog, LogAnomaly, Transformer, Autoencoder, AutoencoderIforest)

MODELS: dict[str, type[Model]] = {kind.name: kind for kind in (*_SIMPLE, *_CLASSICAL, *_DEEP)}
"""What learns from the numbers of normal sessions' templates alone."""
RICHER: dict[str, type[Model]] = {kind.name: kind for kind in (Keywords, ParameterValues)}
"""What learns from normal sessions, and looks at more than the numbers of their templates (``Model.needs``)."""
SUPERVISED: dict[str, type[Supervised]] = {
    kind.name: kind for kind in (DecisionTree, LogisticRegression, Svm, Cnn, CnnOnKeys, Mlp, MlpOnKeys, LogRobust)
}
"""What learns from labels."""
KINDS: dict[str, type[Model]] = {**MODELS, **RICHER, **SUPERVISED}
"""All of them."""
