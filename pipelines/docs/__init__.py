"""The documents that are made from the program and the .sql files: `python -m pipelines.docs FOLDER` writes them."""
