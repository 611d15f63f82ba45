"""HDFS of 2008, as in the data set HDFS_v1: date and time without separators, process, level, class."""

from parsing.formats._base import LEVEL, Example, Format
from parsing.times import layout

FORMATS = (
    Format(
        "hdfs_v1",
        rank=10,
        header=rf"(?P<time>[0-9]{{6}} [0-9]{{6}}) [0-9]+ (?P<level>{LEVEL}) (?P<component>[!-9;-~]+): ",
        times=layout("yyMMdd HHmmss"),
        examples=(
            Example(
                "081109 203530 147 INFO dfs.DataNode$DataXceiver: Receiving block blk_1 src: /10.0.0.1:1",
                "Receiving block blk_1 src: /10.0.0.1:1",
                time="2008-11-09T20:35:30",
                level="INFO",
                session="blk_1",
                component="dfs.DataNode$DataXceiver",
            ),
        ),
    ),
)
