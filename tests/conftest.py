"""Fixtures that every test may use."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import pytest

ROOT = pathlib.Path(__file__).parent.parent
REQUIRED = frozenset(filter(None, os.environ.get("KD_TF_REQUIRE", "").split(",")))


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder with real images and weights; it is no part of the project."""
    folder = pathlib.Path(os.environ.get("KD_TF_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("data: no real images; set KD_TF_DATA to a folder that holds them")
    return folder


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With KD_TF_REQUIRE=data,chromium a skip for such a reason is a failure."""
    report = (yield).get_result()
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        missing = [word for word in REQUIRED if f"{word}:" in reason]
        if missing:
            report.outcome = "failed"
            report.longrepr = f"KD_TF_REQUIRE={','.join(missing)} forbids this: {reason}"
