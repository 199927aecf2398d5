"""WHERE: tables, content-addressed files and keys. Knows no task, no flow, no Prefect and no torch."""
