"""Write SCHEMA.json and renew the tables of PAGE.md, the two arguments: `make schema`."""

import sys
from pathlib import Path

from spinmesh.settings import schema_text
from spinmesh.settings.page import renewed

schema, page = map(Path, sys.argv[1:])
schema.write_text(schema_text())
page.write_text(renewed(page.read_text()))
