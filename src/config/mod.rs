//! The directives of redis.conf: their table, the file reader, and the values in force.
