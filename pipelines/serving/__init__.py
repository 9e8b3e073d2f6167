"""What readers of a published version use: queries, exports, explanations, status, the documents of the tables."""
