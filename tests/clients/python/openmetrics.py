"""Reads metrics in the OpenMetrics text format from standard input with Prometheus' own strict parser, and prints them as
JSON: the families with their types, and each sample with its labels and value."""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

families, samples = {}, []
for family in text_string_to_metric_families(sys.stdin.read()):
    if not family.documentation:
        raise SystemExit(f"MISMATCH {family.name} has no help")
    families[family.name] = family.type
    samples += [{"name": each.name, "labels": each.labels, "value": each.value} for each in family.samples]
json.dump({"families": families, "samples": samples}, sys.stdout)
