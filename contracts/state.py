"""Formats of what the job's operators keep in savepoints and checkpoints, and how a job says that it cannot go on.

A reader refuses another format than its own. The numbers stand in the operators' names as well, so that a savepoint
says what it holds before it is read (``streaming/restore.py``): raise one with every change of its encoding.
"""

PARSER_STATE = 3
"""Of the operator *parse*: ``parsing.parser.Parser.dump``, under keys of ``streaming.placing``."""
SESSION_STATE = 4
"""Of the operator *score*: ``streaming.buckets.Bucket``'s state, likewise."""
TRACE_STATE = 1
"""Of the operator *traces*: ``streaming.traces.TraceStage``'s state."""

NOT_RESTORED = "Not restored: "
"""Begins the line on which a job's program says why it was not submitted."""
