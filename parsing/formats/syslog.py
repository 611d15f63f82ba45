"""Syslog: RFC 5424, RFC 3164, and rsyslog's lines with a full time. A priority in front says the level."""

from parsing.formats._base import ISO, ISO_TIME, MONTH, WORD, Example, Format
from parsing.times import layout

_PRIORITY = r"<(?P<priority>[0-9]{1,3})>"
_DATA = r'(?:-|(?:\[(?:[^\]"\n]|"(?:[^"\\\n]|\\.)*")*\])+)'  # structured data: elements in brackets, values in quotes
_TAG = r"(?P<component>[!-9;-Z\\^-~]+)(?:\[[0-9]+\])?: +"

FORMATS = (
    Format(
        "syslog_5424",
        rank=110,
        header=rf"{_PRIORITY}1 (?:(?P<time>{ISO})|-) (?:-|(?P<host>{WORD})) (?:-|(?P<component>{WORD})) {WORD} {WORD}"
        rf" {_DATA} ?(?:\x{{FEFF}})?",
        times=ISO_TIME,
        examples=(
            Example(
                "<34>1 2026-11-22T13:07:49.003Z web1 su 123 ID47 - 'su root' failed",
                "'su root' failed",
                time="2026-11-22T13:07:49.003",
                level="CRITICAL",
                host="web1",
                component="su",
            ),
            Example(
                '<165>1 2026-11-22T14:07:49.003+01:00 web1 evntslog - ID47 [ex@32473 a="1 ]" b="2"][x@1 c="3"] started',
                "started",
                time="2026-11-22T13:07:49.003",
                level="NOTICE",
                host="web1",
                component="evntslog",
            ),
            Example("<14>1 - - - - - - quiet", "quiet", level="INFO"),
        ),
    ),
    Format(
        "syslog",
        rank=120,
        header=rf"(?:{_PRIORITY})?(?P<time>{MONTH} [ 0-9][0-9] [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}) "
        rf"(?P<host>[!-~]+) (?:{_TAG})?",
        times=layout("MMM dd HH:mm:ss"),
        examples=(
            Example(
                "Nov 10 06:55:46 LabSZ sshd[24200]: Invalid user webmaster from 173.234.31.186",
                "Invalid user webmaster from 173.234.31.186",
                time="2026-11-10T06:55:46",
                host="LabSZ",
                component="sshd",
            ),
            Example(
                "<13>Nov  2 13:07:49 web1 cron: job done",
                "job done",
                time="2026-11-02T13:07:49",
                level="NOTICE",
                host="web1",
                component="cron",
            ),
        ),
    ),
    Format(
        "syslog_iso",
        rank=125,
        header=rf"(?:{_PRIORITY})?(?P<time>{ISO}) (?P<host>[!-~]+) {_TAG}",
        times=ISO_TIME,
        examples=(
            Example(
                "2026-11-22T14:07:49.123456+01:00 web1 sshd[24200]: Invalid user webmaster",
                "Invalid user webmaster",
                time="2026-11-22T13:07:49.123",
                host="web1",
                component="sshd",
            ),
        ),
    ),
)
