"""Detectors of traces, which run through several services: to add one is a file here and a line below."""

from models.tracing.branches import Branches
from models.tracing.callees import Callees
from models.tracing.gaps import Gaps
from models.tracing.levels import Levels
from models.tracing.shapes import Shapes
from models.tracing.shares import Shares
from models.tracing.templates import Templates

TRACE_DETECTORS: tuple[type[Shares], ...] = (Templates, Branches, Callees, Shapes, Levels, Gaps)
"""Of finished traces (``models.tracing.traces``)."""
