"""Web servers: access logs (common, combined, with a virtual host), error logs of Apache and nginx."""

from parsing.formats._base import LEVEL, MONTH, Example, Format
from parsing.times import layout

FORMATS = (
    Format(
        "apache_error",
        rank=80,
        header=rf"\[[A-Z][a-z]{{2}} (?P<time>{MONTH} [ 0-9][0-9] [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}"
        rf" [0-9]{{4}})\] \[(?:(?P<component>[a-z_0-9]+):)?(?P<level>{LEVEL})\] ",
        times=layout("MMM dd HH:mm:ss yyyy"),
        examples=(
            Example(
                "[Sun Dec 04 04:47:44 2005] [error] mod_jk child workerEnv in error state 6",
                "mod_jk child workerEnv in error state 6",
                time="2005-12-04T04:47:44",
                level="ERROR",
            ),
        ),
    ),
    Format(
        "apache_error_2_4",
        rank=81,
        header=rf"\[[A-Z][a-z]{{2}} (?P<time>{MONTH} [ 0-9][0-9] [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}\.[0-9]{{6}}"
        rf" [0-9]{{4}})\] \[(?:(?P<component>[a-z_0-9]+):)?(?P<level>{LEVEL}|trace[1-8])\] (?:\[pid [^\]\n]*\] )?",
        times=layout("MMM dd HH:mm:ss.SSS    yyyy"),
        examples=(
            Example(
                "[Sun Nov 22 13:07:49.123456 2026] [core:error] [pid 7:tid 43] [client 10.0.0.1:1] File does not exist",
                "[client 10.0.0.1:1] File does not exist",
                time="2026-11-22T13:07:49.123",
                level="ERROR",
                component="core",
            ),
        ),
    ),
    Format(
        "nginx_error",
        rank=82,
        header=r"(?P<time>[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) \[(?P<level>[a-z]+)\] [0-9]+#[0-9]+: "
        r"(?:\*[0-9]+ )?",
        times=layout("yyyy/MM/dd HH:mm:ss"),
        examples=(
            Example(
                "2026/11/22 13:07:49 [crit] 7#7: *5 connect() failed (111: Connection refused)",
                "connect() failed (111: Connection refused)",
                time="2026-11-22T13:07:49",
                level="CRITICAL",
            ),
        ),
    ),
    Format(
        "access",
        rank=130,
        header=r"(?:(?P<host>[!-~]+) )?[!-~]+ [!-~]+ [!-~]+ "
        rf"\[(?P<time>[0-9]{{2}}/{MONTH}/[0-9]{{4}}:[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} [+-][0-9]{{4}})\] ",
        times=layout("dd/MMM/yyyy:HH:mm:ss"),
        examples=(
            Example(
                '10.0.0.1 - - [22/Nov/2026:13:07:49 +0000] "GET / HTTP/1.1" 200 12',
                '"GET / HTTP/1.1" 200 12',
                time="2026-11-22T13:07:49",
            ),
            Example(
                '::1 - frank [22/Nov/2026:14:07:49 +0100] "GET /a.gif HTTP/1.0" 200 2326 "http://x.org/" "curl/8.1"',
                '"GET /a.gif HTTP/1.0" 200 2326 "http://x.org/" "curl/8.1"',
                time="2026-11-22T13:07:49",
            ),
            Example(
                'x.org:80 10.0.0.1 - - [22/Nov/2026:13:07:49 +0000] "GET / HTTP/1.1" 200 12',
                '"GET / HTTP/1.1" 200 12',
                time="2026-11-22T13:07:49",
                host="x.org:80",
            ),
        ),
    ),
)
