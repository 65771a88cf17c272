//! Read-through sources: what loads a missing key. Knows routes and databases, not the keyspace or the protocol.
