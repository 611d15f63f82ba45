"""Files on HDFS or in a local folder, Kafka clients, the archive and the control log. Imports contracts only."""
