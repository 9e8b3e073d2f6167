"""The source, the list of tasks: where it is served, orders and filters, what is read of a row, its contract."""
