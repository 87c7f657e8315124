"""Checks as a JUnit report: the XML that CI systems read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement

from .checks import Check, Examined

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(examined: Sequence[Examined]) -> str:
    """One test suite an artifact, one test case a check. Characters that XML cannot hold become question marks."""
    root = Element("testsuites", {"name": "parity", **_counts([check for one in examined for check in one.checks])})
    for one in examined:
        suite = SubElement(root, "testsuite", {"name": _clean(one.artifact), **_counts(one.checks)})
        for check in one.checks:
            _add_case(suite, one.artifact, check)
        SubElement(suite, "system-out").text = _clean("\n".join(one.notes))
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content.decode() + "\n"


def _add_case(suite: Element, artifact: str, check: Check) -> None:
    case = SubElement(suite, "testcase", classname=_clean(artifact), name=check.name, time=f"{check.seconds:.3f}")
    message = _clean(check.message)
    if check.result == "failed":
        SubElement(case, "failure", message=message, type="parity").text = message
    elif check.result == "skipped":
        SubElement(case, "skipped", message=message)


def _counts(checks: Sequence[Check]) -> dict[str, str]:
    return {
        "tests": str(len(checks)),
        "failures": str(sum(check.result == "failed" for check in checks)),
        "errors": "0",
        "skipped": str(sum(check.result == "skipped" for check in checks)),
        "time": f"{sum(check.seconds for check in checks):.3f}",
    }


def _clean(text: str) -> str:
    return NOT_XML.sub("?", text)
