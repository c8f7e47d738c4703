"""Files, folders and stores: where they lie, how they are read, and that none is half written."""
