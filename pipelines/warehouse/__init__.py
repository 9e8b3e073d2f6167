"""From landed payloads to published tables: the type gate, the .sql files and their runner, publishing."""
