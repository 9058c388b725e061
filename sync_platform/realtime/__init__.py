"""Events: received by the gateway, kept in the inbox, delivered by workers within milliseconds."""
