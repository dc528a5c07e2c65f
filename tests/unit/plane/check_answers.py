"""Holds the API against docs/openapi.yaml: check_answers.py OPENAPI API_ROUTE_C TEST…

The table of routes and the description must name the same operations with the same parameters. Then runs the tests
with API_ANSWERS set; each answer that they got must be one that is described: its status, its type, its body by the
schema, and the headers that the description promises."""

import json
import os
import re
import subprocess
import sys
import tempfile
from urllib.parse import unquote

import yaml
from jsonschema import Draft202012Validator, RefResolver

ROUTE = re.compile(r'\{"([A-Z]+)", "([^"]+)", ACCESS_[A-Z]+, ([^{}]*?), \w+, api_\w+(?:, &\w+)?\}')
METHODS = {"get", "put", "post", "patch", "delete"}
ANYWHERE = {405, 500}  # from every path, so said once, in words


def operations_of(document):
    for path, item in document["paths"].items():
        base = item.get("servers", document["servers"])[0]["url"].rstrip("/")
        for method in METHODS & item.keys():
            yield method.upper(), base + path, item, item[method]


def resolved(document, node):
    while "$ref" in node:
        target = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def parameters_of(document, item, operation):
    everything = item.get("parameters", []) + operation.get("parameters", [])
    return [resolved(document, p) for p in everything]


def check_table(document, source):
    text = source.replace("\n", " ")
    page = re.search(r'#define PAGE "([^"]*)"', text)[1]
    table = {}
    for method, path, query in ROUTE.findall(re.sub(r"\s+", " ", text)):
        names = " ".join(re.findall(r'"([^"]*)"', query)) + (f" {page}" if "PAGE" in query else "")
        table[method, path] = set(names.split())
    described = {}
    for method, path, item, operation in operations_of(document):
        names = {p["name"] for p in parameters_of(document, item, operation) if p["in"] == "query"}
        described[method, re.sub(r"\{[^}]*\}", "*", path)] = names
    described["GET", "/internal/registry"] = set()  # nginx's alone
    problems = [f"{key}: in {where} alone" for key in table.keys() ^ described.keys()
                for where in ["the table" if key in table else "the description"]]
    problems += [f"{key}: the table has the parameters {table[key]}, the description {described[key]}"
                 for key in table.keys() & described.keys() if table[key] != described[key]]
    return problems


class Description:
    def __init__(self, document):
        self.document = document
        self.resolver = RefResolver("", document)
        self.operations = []
        for method, path, item, operation in operations_of(document):
            pattern = re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path)) + r"(\?.*)?$")
            self.operations.append((path.count("{"), method, pattern, operation))
        self.operations.sort(key=lambda o: o[0])
        self.seen = set()

    def find(self, method, path):
        method = "GET" if method == "HEAD" else method
        for _, m, pattern, operation in self.operations:
            if m == method and pattern.match(unquote(path)):
                return operation
        return None

    def validate(self, schema, value):
        validator = Draft202012Validator(schema, resolver=self.resolver)
        return [f"{'/'.join(map(str, e.path))}: {e.message[:300]}" for e in validator.iter_errors(value)]

    def problems(self, answer):
        operation = self.find(answer["method"], answer["path"])
        problem = {"$ref": "#/components/schemas/Problem"}
        if operation is None or answer["status"] in ANYWHERE:
            return self.validate(problem, json.loads(answer["body"])) if answer["body"] else []
        self.seen.add((operation["operationId"], answer["status"]))
        response = operation["responses"].get(str(answer["status"]))
        if response is None:
            return [f"{answer['status']} is not described"]
        response = resolved(self.document, response)
        found = [f"no header {name}" for name in response.get("headers", {}) if name.lower() not in answer["headers"]]
        content = response.get("content")
        if not content:
            return found + (["a body where none is described"] if answer["body"] else [])
        kind = answer["headers"].get("content-type", "").split(";")[0]
        if kind not in content:
            return found + [f"the type {kind} is not described"]
        if answer["method"] == "HEAD" or not kind.endswith("json"):
            return found
        return found + self.validate(content[kind]["schema"], json.loads(answer["body"]))


def run(test, record):
    done = subprocess.run([test], env={**os.environ, "API_ANSWERS": record}, capture_output=True, text=True)
    return [f"{os.path.basename(test)} ended with {done.returncode}: {done.stderr[-600:]}"] if done.returncode else []


def main(description_path, table_path, tests):
    with open(description_path, encoding="utf-8") as f:
        description = Description(yaml.safe_load(f))
    with open(table_path, encoding="utf-8") as f:
        problems = check_table(description.document, f.read())
    Draft202012Validator.check_schema({"$defs": description.document["components"]["schemas"]})
    count = 0
    with tempfile.NamedTemporaryFile("r", prefix="answers-", encoding="utf-8") as record:
        for test in tests:
            problems += run(test, record.name)
        for line in record:
            answer = json.loads(line)
            count += 1
            problems += [f"{answer['method']} {answer['path']} {answer['status']}: {p}"
                         for p in description.problems(answer)]
    good = {o for o, status in description.seen if status < 400}
    problems += [f"{o[3]['operationId']}: no test ever saw it succeed" for o in description.operations
                 if o[3]["operationId"] not in good and not o[3]["operationId"].startswith("stream")]
    for p in sorted(set(problems)):
        print(p)
    print(f"{count} answers, {len(description.seen)} kinds of them, {len(set(problems))} problems")
    return 1 if problems or count < 200 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
