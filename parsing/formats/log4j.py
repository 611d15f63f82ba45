"""Log4j, logback, Spring Boot and their kin: a date and time, thread, level and class in one of many orders."""

from parsing.formats._base import CLASS, CLOCK, ISO, ISO_TIME, LEVEL, MONTH, Example, Format
from parsing.times import layout

FORMATS = (
    Format(
        "spring_trace",
        rank=58,
        header=rf"(?P<time>{ISO}) +(?P<level>{LEVEL}) +"
        r"\[[^\],\n]*,(?P<trace>[0-9a-f]*),(?P<span>[0-9a-f]*)(?:,[a-z]*)?\]"
        rf" [0-9]+ --- \[[^\]\n]*\] (?P<component>{CLASS}) *: ",
        times=ISO_TIME,
        examples=(
            Example(
                "2026-11-22 13:07:49.123  INFO [shop,0af7651916cd43dd,b7ad6b7169203331] 1 --- [nio-8080-exec-1]"
                " com.example.Shop         : sold",
                "sold",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                session="0af7651916cd43dd",
                component="com.example.Shop",
                trace="0af7651916cd43dd",
                span="b7ad6b7169203331",
            ),
        ),
    ),
    Format(
        "log4j",
        rank=60,
        header=rf"(?P<time>{ISO}),? +(?:[|-] +)?(?:\[[^\]\n]*\] +)?(?:[0-9]+ +)?\[?(?P<level>{LEVEL})\]?(?: *[:|])?"
        rf"(?: +[0-9]+)?(?: +---)?(?: +\[(?:[^\[\]\n]|\[[^\[\]\n]*\])*\](?: -)?)*"
        rf"(?: +(?P<component>{CLASS})(?: \([^()\n]*(?:\([0-9]+\))?\))?(?: *:| +--?))? +",
        times=ISO_TIME,
        examples=(
            Example(
                "2026-11-22 13:07:49,123 INFO  datanode.DataNode (DataXceiver.java:writeBlock(740)) - Receiving",
                "Receiving",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="datanode.DataNode",
            ),
            Example(
                "2026-11-22 13:07:49,123 INFO [main] org.apache.hadoop.MRAppMaster: Created",
                "Created",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="org.apache.hadoop.MRAppMaster",
            ),
            Example(
                "2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]/0:0:2181:FastLeaderElection@774] - Notification",
                "Notification",
                time="2015-07-29T17:41:44.747",
                level="INFO",
            ),
            Example(
                "2026-11-22T13:07:49.123Z  INFO 1 --- [main] com.example.Shop : Started",
                "Started",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="com.example.Shop",
            ),
            Example(
                "2026-11-22 13:07:49.123 [main] INFO  com.example.Shop - Started",
                "Started",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="com.example.Shop",
            ),
            Example(
                "2026-11-22T13:07:49+01:00 error cannot reach the database",
                "cannot reach the database",
                time="2026-11-22T12:07:49",
                level="ERROR",
            ),
            Example(
                "2016-09-28 04:30:30, Info                  CBS    Loaded Servicing Stack",
                "CBS    Loaded Servicing Stack",
                time="2016-09-28T04:30:30",
                level="INFO",
            ),
        ),
    ),
    Format(
        "cassandra",
        rank=62,
        header=rf"(?P<level>{LEVEL}) +\[[^\]\n]*\] (?P<time>{ISO}) (?P<component>[A-Za-z0-9_$]+)\.java:[0-9]+ - ",
        times=ISO_TIME,
        examples=(
            Example(
                "WARN  [main] 2026-11-22 13:07:49,123 StartupChecks.java:136 - jemalloc is not there",
                "jemalloc is not there",
                time="2026-11-22T13:07:49.123",
                level="WARN",
                component="StartupChecks",
            ),
        ),
    ),
    Format(
        "level_time",
        rank=64,
        header=rf"\[?(?P<level>{LEVEL})\]?:? +\[?(?P<time>{ISO})\]?(?: +\[[^\]\n]*\])*"
        rf"(?: +(?P<component>{CLASS})(?: \([^()\n]*\))?(?: *:| +--?))?[ ,:|-]+",
        times=ISO_TIME,
        examples=(
            Example(
                "INFO  2026-11-22 13:07:49,123 [main] com.example.Shop - Started",
                "Started",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="com.example.Shop",
            ),
            Example("[ERROR] 2026-11-22 13:07:49 lost", "lost", time="2026-11-22T13:07:49", level="ERROR"),
        ),
    ),
    Format(
        "tomcat",
        rank=66,
        header=rf"(?P<time>[0-9]{{2}}-{MONTH}-[0-9]{{4}} {CLOCK}) (?P<level>{LEVEL})"
        rf" \[[^\]\n]*\] (?P<component>{CLASS}) ",
        times=layout("dd-MMM-yyyy HH:mm:ss.f"),
        examples=(
            Example(
                "22-Nov-2026 13:07:49.123 SEVERE [main] org.apache.catalina.core.StandardServer.await failed",
                "failed",
                time="2026-11-22T13:07:49.123",
                level="ERROR",
                component="org.apache.catalina.core.StandardServer.await",
            ),
        ),
    ),
    Format(
        "spark",
        rank=70,
        header=rf"(?P<time>[0-9]{{2}}/[0-9]{{2}}/[0-9]{{2}} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}) (?P<level>{LEVEL}) "
        r"(?P<component>[!-9;-~]+): ",
        times=layout("yy/MM/dd HH:mm:ss"),
        examples=(
            Example(
                "17/06/09 20:10:40 INFO spark.SecurityManager: Changing view acls to: yarn",
                "Changing view acls to: yarn",
                time="2017-06-09T20:10:40",
                level="INFO",
                component="spark.SecurityManager",
            ),
        ),
    ),
)
