"""In a process of its own: NNCF sends nothing under pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino_telemetry")

ROOT = Path(__file__).parents[1]
USES = """
import json, sys
if "decline" in sys.argv:
    import exporters.nncf
from openvino_telemetry import Telemetry
from openvino.tools.ovc.telemetry_utils import init_ovc_telemetry
import nncf.telemetry
if "decline" in sys.argv:
    import openvino
    from exporters.openvino import decline_telemetry
    decline_telemetry()
print(json.dumps([nncf.telemetry.telemetry._impl.consent, init_ovc_telemetry().consent]))
"""


@pytest.mark.parametrize(
    ("how", "consents"),
    [("decline", "[false, false]"), pytest.param("as they are", "[true, true]", marks=pytest.mark.slow)],
)
def test_exporting_tells_nobody(how: str, consents: str, tmp_path: Path) -> None:
    """As they are, they take consent for granted: were that to change, the answer for the user could go."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", USES, how], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == consents
    assert (tmp_path / "intel").exists() == (how != "decline")  # with their id in it
