"""The documents that are made from the program and the .sql files, and the catalogue of a version."""
