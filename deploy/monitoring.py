"""Prometheus as a part: scrapes the exporter and Flink, evaluates the shipped rules."""

from deploy.parts import Part, Plan, answers
from deploy.paths import PROJECT
from deploy.tools import find_tool

SCRAPE_SECONDS = 5
"""Also the interval of rules: an alert is there 10 s after its cause at most, plus its own waiting time."""

FLINK_SECONDS = 15
"""Flink writes thousands of series, an eighth of its samples of CPU time at 5 s; no rule needs them sooner."""

CONFIGURATION = """\
global:
  scrape_interval: {seconds}s
  scrape_timeout: {seconds}s
  evaluation_interval: {seconds}s
rule_files:
  - {rules}
scrape_configs:
  - job_name: logcanary
    static_configs: [{{targets: ['{exporter}']}}]
  - job_name: flink
    scrape_interval: {flink_seconds}s
    static_configs:
      - {{targets: ['{jobmanager}'], labels: {{part: jobmanager}}}}
      - {{targets: ['{taskmanager}'], labels: {{part: taskmanager}}}}
  - job_name: prometheus
    static_configs: [{{targets: ['{prometheus}']}}]
"""


def configuration(plan: Plan) -> str:
    """Return ``prometheus.yml``."""
    return CONFIGURATION.format(
        seconds=SCRAPE_SECONDS,
        flink_seconds=FLINK_SECONDS,
        rules=PROJECT / "deploy" / "prometheus" / "*.rules.yml",
        exporter=plan.address("exporter"),
        jobmanager=plan.address("jobmanager-metrics"),
        taskmanager=plan.address("taskmanager-metrics"),
        prometheus=plan.address("prometheus"),
    )


def prometheus(plan: Plan) -> Part:
    """Return Prometheus; its series are in ``<home>/prometheus/data`` for 15 days."""
    folder = plan.home / "prometheus"

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prometheus.yml").write_text(configuration(plan))

    return Part(
        name="prometheus",
        command=lambda: [
            str(find_tool("prometheus")),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=15d",
            f"--web.listen-address={plan.address('prometheus')}",
        ],
        log=plan.logs / "prometheus.out",
        ready=lambda: answers(f"{plan.url('prometheus')}/-/ready"),
        port=plan.ports["prometheus"],
        address=plan.url("prometheus"),
        prepare=prepare,
    )
