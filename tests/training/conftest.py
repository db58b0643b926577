"""Makes `fakes` importable: pytest imports test files as if they lay in no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
