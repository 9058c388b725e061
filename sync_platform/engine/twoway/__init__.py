"""Two-way syncs: both sides may change a record, and each field goes where it did not change."""
