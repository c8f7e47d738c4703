# What the Snakefile of every experiment includes: its scripts import `experiments.<name>`, and a result
# is made again when the code of its experiment has changed.
import hashlib
import os
import sys
from pathlib import Path

# Jobs are programs of their own; they inherit the path.
ROOT = str(Path(workflow.basedir).resolve().parents[1])
sys.path.insert(0, ROOT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))


def experiment_digest(*of_the_library, without=("figures.py",)):
    """Digest of the experiment's own modules, with those of what it uses of the library."""
    files = sorted(f for f in Path(workflow.basedir).glob("*.py") if f.name not in without)
    text = "\n".join([*of_the_library, *(file.read_text() for file in files)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
