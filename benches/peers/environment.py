"""The Python environment that the comparisons run in, made on the first run from requirements.txt."""
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = Path(os.environ.get("PEER_VENVS", Path.home() / ".cache/cohort-peers")) / "bench"


def enter_environment():
    """Goes on in the environment, and gives everyone the same number of threads, which it returns."""
    if Path(sys.prefix).resolve() != VENV.resolve():
        made = VENV / "ready"
        wanted = (HERE / "requirements.txt").read_text()
        if not made.exists() or made.read_text() != wanted:
            venv.create(VENV, with_pip=True)
            subprocess.run([VENV / "bin/python", "-m", "pip", "install", "-q", "-r", HERE / "requirements.txt"], check=True)
            made.write_text(wanted)
        # Python finds its environment by the name it is called by.
        python = str(VENV / "bin/python")
        os.execv(python, [python, sys.argv[0], *sys.argv[1:]])
    threads = os.environ.get("PEER_THREADS", "2")
    for pool in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
        os.environ.setdefault(pool, threads)
    # implicit has threads of its own and asks for this; scikit-learn's k-means sets its pools itself.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return threads
