"""Where images come from and how they were changed: manifests, maps, signatures, a ledger."""
