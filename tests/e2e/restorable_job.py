"""A Flink job of ten rows a second that keeps state: what the keeper submits again in test_stack.py."""

import argparse

from pyflink.common import Types
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

parser = argparse.ArgumentParser()
for name in ("name", "topics", "start", "settings"):
    parser.add_argument(f"--{name}")
arguments = parser.parse_args()

environment = StreamExecutionEnvironment.get_execution_environment()
tables = StreamTableEnvironment.create(environment)
tables.execute_sql(
    "CREATE TABLE numbers (number BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '10',"
    " 'fields.number.kind' = 'sequence', 'fields.number.start' = '1', 'fields.number.end' = '1000000')"
)
rows = tables.to_data_stream(tables.sql_query("SELECT number FROM numbers"))
rows.map(lambda row: f"{arguments.name} {row[0]}", output_type=Types.STRING()).uid("words").print().uid("out")
environment.execute(f"logcanary-{arguments.name}")
