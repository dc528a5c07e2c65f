"""What lab/faults.conf says of each fault, and whether a report of `gridnode diag` says the same."""
import configparser
import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FAULTS = REPOSITORY / "lab" / "faults.conf"
SCHEMA = REPOSITORY / "docs" / "diag.schema.json"
EXIT_CODES = {"healthy": 0, "blocked": 1, "undetermined": 2, "degraded": 3}


class Fault:
    """One paragraph of faults.conf."""

    def __init__(self, name, section):
        self.name = name
        self.about = section["about"]
        self.verdicts = section["verdict"].split("|")
        self.must = [item.split("|") for item in section.get("must", "").split()]
        self.may = set(section.get("may", "").split()) | {code for item in self.must for code in item}
        self.expectations = [self.parse(text) for text in section.get("expect", "").split(";") if text.strip()]
        self.states = [item.split("=") for item in section.get("states", "").split()]

    @staticmethod
    def parse(text):
        code, *members = shlex.split(text)
        return code, [re.fullmatch(r"(\w+)([=~+])(.*)", member).groups() for member in members]


def load_faults():
    parser = configparser.ConfigParser(interpolation=None, delimiters=["="])
    with open(FAULTS, encoding="utf-8") as file:
        parser.read_file(file)
    return [Fault(name, parser[name]) for name in parser.sections()]


# --- judging --------------------------------------------------------------------------------------------------------


def member_of(causes, member):
    """What the causes of one code say together: lists are joined, of the rest the values that differ."""
    if member in ("targets", "services"):
        return sorted({value for cause in causes for value in cause[member]})
    values = []
    for cause in causes:
        value = cause.get(member)
        if member in ("by", "after"):
            value = value["address"] if value else "none"
        elif isinstance(value, bool):
            value = str(value).lower()
        if value not in values:
            values.append(value)
    return values


def judge_expectation(report, code, members, rested):
    causes = [cause for cause in report["causes"] if cause["code"] == code]
    if not causes:
        return
    for member, operator, wanted in members:
        said = member_of(causes, member)
        if operator == "~":
            right = all(re.search(wanted, str(value or "")) for value in said)
        elif operator == "+":
            right = wanted in said
        elif member in ("targets", "services"):
            right = said == sorted(wanted.split(","))
        else:
            # A router sends one ICMP error a second once it has sent six: runs in a row may find it out of breath.
            right = said == [wanted] or (member == "after" and not rested and set(said) <= {wanted, "none"})
        if not right:
            yield f"{code}: {member} is {said}, not {wanted}"


def judge_states(report, states):
    services = {service["name"]: service for service in report["services"]}
    for what, wanted in states:
        name, _, address = what.partition("/")
        service = services.get(name, {"state": "absent", "addresses": []})
        said = service["state"]
        if address:
            said = next((a["state"] for a in service["addresses"] if a["address"] == address), "absent")
        if said != wanted:
            yield f"{what} is {said}, not {wanted}"


def judge(fault, report, exit_code, validator, rested):
    """Everything that is wrong with one report."""
    for error in validator.iter_errors(report):
        yield f"schema: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
    verdict = report.get("verdict")
    if verdict not in fault.verdicts:
        yield f"verdict is {verdict}, not {' or '.join(fault.verdicts)}"
    if exit_code != EXIT_CODES.get(verdict):
        yield f"exit code is {exit_code} with verdict {verdict}"
    codes = {cause["code"] for cause in report["causes"]}
    for alternatives in fault.must:
        if not codes & set(alternatives):
            yield f"missing {' or '.join(alternatives)}"
    for code in sorted(codes - fault.may):
        yield f"wrong name {code}"
    blocked = any(service["state"] == "blocked" for service in report["services"])
    if any(cause["severity"] == "critical" for cause in report["causes"]) and not blocked:
        yield "a critical cause, and no service is blocked"
    for code, members in fault.expectations:
        yield from judge_expectation(report, code, members, rested)
    yield from judge_states(report, fault.states)
