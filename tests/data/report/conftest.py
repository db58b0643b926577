"""Datasets drawn for a report, and the page about each."""

import pytest

from detflow.data.judging.audit import AuditOptions, audit_dataset
from detflow.data.making import RecordOptions, describe_audit
from detflow.data.report.page import render_report
from detflow.data.workers.processes import ProcessMap
from detflow.storage.folders import LocalFolder


@pytest.fixture
def audited(voc_set, tmp_path):
    """Audits the dataset that a test has drawn."""

    def audited():
        work_dir = tmp_path / "work"
        work_dir.mkdir(exist_ok=True)
        return audit_dataset(
            LocalFolder.of(voc_set.root),
            AuditOptions(),
            work_dir,
            ProcessMap(None, 1),
            lambda what, done, total: None,
        )

    return audited


@pytest.fixture
def page(audited, parse_page):
    """Renders the report of the dataset that a test has drawn, with further findings."""

    def page(ledger="ledger.jsonl", findings=()):
        audit = audited()
        with open(audit.findings_path, "a", encoding="utf-8") as file:
            file.writelines(finding.to_json() + "\n" for finding in findings)
        return parse_page(render_report(audit, describe_audit(audit, RecordOptions()), ledger))

    return page
