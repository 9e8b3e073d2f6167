"""Whether what is published is true: compared with the server, and with a rebuild from what has landed."""
