"""HDFS as a part: NameNode, two DataNodes and WebHDFS in one process (Hadoop's own MiniDFSCluster)."""

import zipfile
from pathlib import Path

from deploy.jars import class_path
from deploy.parts import Part, Plan, get_json

DATANODES = 2
"""Two, so that a damaged replica can be read and healed from the other."""

# The layout is that of Hadoop's daemons, with the last two parts of the class name.
LOGGING = """\
log4j.rootLogger=INFO, file
log4j.appender.file=org.apache.log4j.RollingFileAppender
log4j.appender.file.File={log}
log4j.appender.file.MaxFileSize=64MB
log4j.appender.file.MaxBackupIndex=3
log4j.appender.file.layout=org.apache.log4j.PatternLayout
log4j.appender.file.layout.ConversionPattern=%d{{ISO8601}} %p %c{{2}}: %m%n
"""

OPTIONS = {
    "dfs.webhdfs.enabled": "true",
    "dfs.replication": str(DATANODES),
    # One user owns this machine's stack; WebHDFS takes any name given to it, so permissions would protect nothing.
    "dfs.permissions.enabled": "false",
}


def dfs(plan: Plan) -> Part:
    """Return HDFS; its blocks are in ``<home>/hdfs/dfs/data``."""
    folder = plan.home / "hdfs"
    log = plan.logs / "hdfs.log"
    # Short-lived objects of small requests: the simple compiler and collector start sooner and suffice.
    jvm = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *plan.jvm("hdfs"))

    formatted = folder / "formatted"

    def prepare() -> None:
        (folder / "conf").mkdir(parents=True, exist_ok=True)
        (folder / "conf" / "log4j.properties").write_text(LOGGING.format(log=log))
        unpack_webapps(folder)

    def command() -> list[str]:
        words = [str(plan.java.binary), *jvm, f"-Dtest.build.data={folder}"]
        words += [f"-Dlog4j.configuration=file:{folder / 'conf' / 'log4j.properties'}"]
        words += ["-cp", ":".join([str(folder / "web"), *(str(jar) for jar in class_path("hadoop"))])]
        words += ["org.apache.hadoop.test.MiniDFSClusterManager", "-datanodes", str(DATANODES)]
        words += ["-nnport", str(plan.ports["hdfs-rpc"]), "-httpport", str(plan.ports["hdfs"])]
        words += [
            f"-D{name}={value}" for name, value in {**OPTIONS, "hadoop.tmp.dir": str(plan.temporary("hdfs"))}.items()
        ]
        return words if formatted.exists() else [*words, "-format"]

    def ready() -> bool:
        query = "qry=Hadoop:service=NameNode,name=FSNamesystemState"
        beans = get_json(f"{plan.url('hdfs')}/jmx?{query}")["beans"]
        if not beans or beans[0]["FSState"] != "Operational" or beans[0]["NumLiveDataNodes"] != DATANODES:
            return False
        # From now on there may be data; until now there was none, and a start cut short is formatted again.
        formatted.touch()
        return True

    return Part(
        name="hdfs",
        command=command,
        log=log,
        ready=ready,
        port=plan.ports["hdfs"],
        address=plan.url("hdfs"),
        prepare=prepare,
    )


def unpack_webapps(folder: Path) -> None:
    """Lay Hadoop's web pages out as files, once: from its jar of 30,000 entries the server takes 5 s to unpack them."""
    target = folder / "web"
    if not target.exists():
        jar = next(jar for jar in class_path("hadoop") if jar.name.startswith("hadoop-client-minicluster"))
        with zipfile.ZipFile(jar) as archive:
            pages = [name for name in archive.namelist() if name.startswith("webapps/")]
            archive.extractall(folder / "web.partial", pages)
        (folder / "web.partial").rename(target)
