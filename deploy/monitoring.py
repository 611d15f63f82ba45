"""Prometheus and Alertmanager as parts: scrape exporter and Flink, evaluate the shipped rules, tell who is to know."""

import shutil

from deploy.parts import Part, Plan, answers
from deploy.paths import PROJECT
from deploy.tools import find_tool, templates_of_alertmanager

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
alerting:
  alertmanagers:
    - static_configs: [{{targets: ['{alertmanager}']}}]
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
  - job_name: alertmanager
    static_configs: [{{targets: ['{alertmanager}']}}]
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
        alertmanager=plan.address("alertmanager"),
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


def alertmanager(plan: Plan) -> Part:
    """Return Alertmanager; its configuration is ``<home>/alertmanager/alertmanager.yml``.

    That file is written once, from ``deploy/alertmanager/``: receivers are the user's, who fills them in there.
    """
    folder = plan.home / "alertmanager"

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for shipped in [*(PROJECT / "deploy" / "alertmanager").iterdir(), *templates_of_alertmanager()]:
            if not (folder / shipped.name).exists():
                shutil.copy(shipped, folder)

    return Part(
        name="alertmanager",
        command=lambda: [
            str(find_tool("prometheus-alertmanager")),
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={plan.address('alertmanager')}",
            # One of them is no cluster: it would listen on every address.
            "--cluster.listen-address=",
        ],
        log=plan.logs / "alertmanager.out",
        ready=lambda: answers(f"{plan.url('alertmanager')}/-/ready"),
        port=plan.ports["alertmanager"],
        address=plan.url("alertmanager"),
        prepare=prepare,
    )
