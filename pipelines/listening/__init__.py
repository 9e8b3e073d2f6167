"""Live events: what Livepeer's webhooks deliver, on the disk before it is answered."""
