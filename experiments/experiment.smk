# What the Snakefile of every experiment includes: its scripts import `experiments.<name>`.
import os
import sys
from pathlib import Path

# Jobs are programs of their own; they inherit the path.
ROOT = str(Path(workflow.basedir).resolve().parents[1])
sys.path.insert(0, ROOT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
