import pytest

from detflow.data.judging.audit import AuditOptions, audit_dataset
from detflow.data.sources.splits import SplitBy
from detflow.data.workers.processes import ProcessMap
from detflow.storage.folders import LocalFolder


class Auditor:
    """Audits a set in this process.

    The helpers hang on it because test modules cannot import one another.
    """

    def __init__(self, root, work_dir):
        self.root = root
        self.work_dir = work_dir

    def __call__(self, **options):
        self.work_dir.mkdir(exist_ok=True)
        options.setdefault("split_by", SplitBy.SEED)
        options.setdefault("fractions", {"train": 1.0})
        return audit_dataset(
            LocalFolder.of(self.root),
            AuditOptions(**options),
            self.work_dir,
            ProcessMap(None, 1),
            lambda what, done, total: None,
        )

    @staticmethod
    def found(result, *actions):
        """What was found, as (code, path, line, object)."""
        return [
            (finding.code, finding.path, finding.line, finding.object_index)
            for finding in result.findings(*actions)
        ]

    @staticmethod
    def boxes(result, annotation="annotations/a.xml"):
        """The boxes of an annotation's sample."""
        return [entry.box for entry in result.read_sample(annotation).objects]


@pytest.fixture
def audit(voc_set, tmp_path):
    return Auditor(voc_set.root, tmp_path / "work")
