"""The etcd that tests run: fetched before, or said to be missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tools"))

from testbed import etcd  # noqa: E402


def test_where_it_was_not_fetched_the_fix_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd, "CACHE", tmp_path)
    with (
        pytest.raises(etcd.EtcdError, match=r"etcd is missing: run `tools/install-deps test`"),
        etcd.running("bookworm"),
    ):
        pass


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd, "CACHE", tmp_path)
    monkeypatch.setattr(etcd, "MIRROR", "http://127.0.0.1:1")
    (tmp_path / "bookworm").mkdir()
    etcd.fetch("bookworm")


def test_one_that_ends_at_once_says_why() -> None:
    said = pytest.raises(etcd.EtcdError, match=r"etcd1 does not answer:\n(.*\n)*.*no-such-option")
    with said, etcd.running("bookworm", options=["--no-such-option"]):
        pass
