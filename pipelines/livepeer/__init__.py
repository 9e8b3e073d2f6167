"""The Livepeer Studio task API: the client, the walks over its list, redaction and the payload's contract."""
