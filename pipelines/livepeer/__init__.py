"""The Livepeer Studio task API: the client, the walks over its list, the lanes, redaction and the payload's contract."""
