"""What the tests above unit level share: private PostgreSQL servers, holdfast daemons, digests."""
