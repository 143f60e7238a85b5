"""What the processes of test_pool.py do: a module that they can import."""

import os
import time
import warnings
from pathlib import Path

from experiments.errors import UserError


class Work:
    """Made once in a process; does what the task says."""

    def __init__(self):
        self.tasks = 0

    def __call__(self, task):
        kind, value = task
        self.tasks += 1
        if kind == "die":
            os._exit(value)
        if kind == "refuse":
            raise UserError(value)
        if kind == "break":
            raise RuntimeError(f"two\nlines of {value}")
        if kind == "warn":
            warnings.warn(value, stacklevel=1)
            warnings.warn(value, stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            print("noise")
        if kind == "stay":
            told = Path(value)
            told.with_suffix(".part").write_text(str(os.getpid()))
            told.with_suffix(".part").rename(told)
            time.sleep(600)
        if kind == "sleep":
            time.sleep(value)
        return value, self.tasks, os.getpid(), os.environ["OMP_NUM_THREADS"]
