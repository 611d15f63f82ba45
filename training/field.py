"""Every model of the field that the benchmark compares, by its name."""

from training.classical import InvariantMining, IsolationForest, LogClustering
from training.deep import Cnn, CnnOnKeys, Mlp, MlpOnKeys
from training.simple import CountVector, Length, Model, NewTemplate, Ngram, Pca
from training.supervised import DecisionTree, LogisticRegression, Supervised, Svm

MODELS: dict[str, type[Model]] = {
    kind.name: kind
    for kind in (NewTemplate, Length, CountVector, Ngram, Pca, IsolationForest, LogClustering, InvariantMining)
}
"""What learns from normal sessions alone."""
SUPERVISED: dict[str, type[Supervised]] = {
    kind.name: kind for kind in (DecisionTree, LogisticRegression, Svm, Cnn, CnnOnKeys, Mlp, MlpOnKeys)
}
"""What learns from labels."""
