"""What programs nobody here wrote make of a mount, while a module comes and goes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BACKENDS
from tests.fuse.harness import REQUIRED, needs_mount

MISSING = [name for name in ("rsync", "lsof", "fio", "stress-ng") if not shutil.which(name)]
assert not (MISSING and REQUIRED), f"this test must not be skipped here, and wants {MISSING}"


# Not in this process: pytest's asyncio is in debug mode, and too slow for that many programs.
@needs_mount
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
@pytest.mark.timeout(90)
@pytest.mark.parametrize("backend", BACKENDS)
def test_programs_end_well_while_a_module_comes_and_goes(backend: str, tmp_path: Path) -> None:
    """Nothing hangs, fails or runs too late; tasks, descriptors and memory stay what they were."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuse.programs", backend, str(tmp_path)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.returncode == 0, done.stdout
