"""The report: one HTML file that needs nothing else, made from a version of the tables."""
