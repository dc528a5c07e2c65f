#!/usr/bin/env python3
"""Validates reports against docs/diag.schema.json, and that the schema is strict.

usage: validate_schema.py SCHEMA PROGRAM   (PROGRAM prints one report a line)
       validate_schema.py SCHEMA - < REPORT
"""
import copy
import json
import subprocess
import sys

import jsonschema


def broken(report):
    """Copies of a blocked report, each with one thing wrong."""

    def change(what, edit):
        changed = copy.deepcopy(report)
        edit(changed)
        return what, changed

    yield change("unknown member", lambda r: r.update(extra=1))
    yield change("unknown member of a service", lambda r: r["services"][0].update(extra=1))
    yield change("unknown member of an address", lambda r: r["services"][0]["addresses"][0].update(extra=1))
    yield change("unknown member of a cause", lambda r: r["causes"][0].update(extra=1))
    yield change("unknown code", lambda r: r["causes"][0].update(code="tcp.imagined"))
    yield change("candidates without undetermined", lambda r: r["causes"][0].update(candidates=[]))
    yield change("route without route.*", lambda r: r["causes"][0].update(route="default"))
    yield change("interceptor without tls.intercepted", lambda r: r["causes"][0].update(interceptor="X"))
    yield change("no after", lambda r: r["causes"][0].pop("after"))
    yield change("hop without an address", lambda r: r["causes"][0].update(by={"hop": 1}))
    yield change("unknown verdict", lambda r: r.update(verdict="fine"))
    yield change("no measurements", lambda r: r.pop("measurements"))
    yield change("unknown outcome", lambda r: r["measurements"][0].update(outcome="maybe"))
    yield change("local time", lambda r: r.update(started="2026-11-21T03:00:00"))
    yield change("wrong type in a detail", lambda r: r["measurements"][0]["detail"].update(tries="five"))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    if sys.argv[2] == "-":
        reports = [json.load(sys.stdin)]
    else:
        lines = subprocess.run([sys.argv[2]], check=True, stdout=subprocess.PIPE).stdout
        reports = [json.loads(line) for line in lines.splitlines()]
    wrong = 0
    for number, report in enumerate(reports):
        for error in validator.iter_errors(report):
            path = "/".join(str(part) for part in error.absolute_path)
            print(f"report {number}: {path}: {error.message}")
            wrong += 1
        if report["causes"] and report["causes"][0]["code"] == "tcp.dropped":
            for what, changed in broken(report):
                if validator.is_valid(changed):
                    print(f"report {number}: {what} passes the schema")
                    wrong += 1
    print(f"{len(reports)} reports, {wrong} faults")
    return 1 if wrong or not reports else 0


if __name__ == "__main__":
    sys.exit(main())
