"""Print the JSON schema of the configuration."""

import sys

from spinmesh.settings import schema_text

sys.stdout.write(schema_text())
