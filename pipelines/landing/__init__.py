"""The landing zone: immutable loads of redacted payloads, their manifests and proofs. The truth of the archive."""
