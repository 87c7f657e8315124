"""Exporting tells nobody: OpenVINO's converter and NNCF would report their use to Google Analytics without asking."""

from __future__ import annotations


def decline_telemetry() -> None:
    """Answer no wherever they look for the user's consent, in this process. To be called before they are.

    They take it as given where they find no file with an answer, and then tell which functions are used, with which
    options, under an id that they keep in the home folder.
    """
    try:
        from openvino_telemetry.utils.opt_in_checker import ConsentCheckResult, OptInChecker
    except ImportError:  # not installed: they send nothing then
        return
    OptInChecker.check = lambda *_, **__: ConsentCheckResult.DECLINED
