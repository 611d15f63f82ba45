"""Python: the layouts of its logging documentation, loguru, and logging's default without a time."""

from parsing.formats._base import ISO, ISO_TIME, LEVEL, WORD, Example, Format

FORMATS = (
    Format(
        "loguru",
        rank=48,
        header=rf"(?P<time>{ISO}) \| (?P<level>{LEVEL}) +\| (?P<component>[^ :\n]+):[^ :\n]+:[0-9]+ - ",
        times=ISO_TIME,
        examples=(
            Example(
                "2026-11-22 13:07:49.123 | WARNING  | app.web:serve:12 - slow answer",
                "slow answer",
                time="2026-11-22T13:07:49.123",
                level="WARN",
                component="app.web",
            ),
        ),
    ),
    Format(
        "python",
        rank=50,
        header=rf"(?P<time>{ISO}) - (?P<component>{WORD}) - (?P<level>{LEVEL}) - ",
        times=ISO_TIME,
        examples=(
            Example(
                "2026-11-22 13:07:49,123 - app.web - WARNING - slow answer",
                "slow answer",
                time="2026-11-22T13:07:49.123",
                level="WARN",
                component="app.web",
            ),
        ),
    ),
    Format(
        "python_default",
        rank=300,
        header=r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL):(?P<component>[A-Za-z_][A-Za-z0-9_.-]*):",
        examples=(
            Example("WARNING:root:disk is full", "disk is full", level="WARN", component="root"),
            Example("ERROR:app.web:cannot read", "cannot read", level="ERROR", component="app.web"),
        ),
    ),
)
