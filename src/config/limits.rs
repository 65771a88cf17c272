//! The directives that say how values are kept, and which: the sizes at which small collections stop being packed. Handed down
//! with each command. Knows numbers only.

/// What bounds values, and the packed form of small ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `proto-max-bulk-len`: what a string may grow to, in bytes.
    pub max_string: usize,
    /// `compress-threshold`: strings so long or longer are kept compressed, in bytes; 0: none is.
    pub compress_threshold: usize,
    /// `hash-max-listpack-entries`: most fields of a packed hash.
    pub hash_max_listpack_entries: usize,
    /// `hash-max-listpack-value`: most bytes of a field or value in it.
    pub hash_max_listpack_value: usize,
    /// `list-max-listpack-size`: most elements of a list's chunk, or, negative, its size class (-1: 4 KiB … -5: 64 KiB).
    pub list_max_listpack_size: i32,
    /// `set-max-intset-entries`: most members of a set of integers.
    pub set_max_intset_entries: usize,
    /// `set-max-listpack-entries`: most members of another packed set.
    pub set_max_listpack_entries: usize,
    /// `set-max-listpack-value`: most bytes of a member in it.
    pub set_max_listpack_value: usize,
    /// `zset-max-listpack-entries`: most members of a packed sorted set.
    pub zset_max_listpack_entries: usize,
    /// `zset-max-listpack-value`: most bytes of a member in it.
    pub zset_max_listpack_value: usize,
    /// `stream-node-max-bytes`: most bytes of a stream's block; 0: no limit.
    pub stream_node_max_bytes: usize,
    /// `stream-node-max-entries`: most entries of a stream's block; 0: no limit.
    pub stream_node_max_entries: usize,
    /// `hll-sparse-max-bytes`: most bytes of a sparse HyperLogLog.
    pub hll_sparse_max_bytes: usize,
    /// `import-mode`: what has expired is stored all the same, for who imports keys takes it away himself.
    pub import_mode: bool,
    /// `rdb-version-check relaxed`: RESTORE takes values in versions of the format that are not known.
    pub any_dump_version: bool,
}

impl Limits {
    /// The directives' defaults.
    pub const DEFAULT: Self = Self {
        max_string: 512 << 20,
        compress_threshold: 0,
        hash_max_listpack_entries: 512,
        hash_max_listpack_value: 64,
        list_max_listpack_size: -2,
        set_max_intset_entries: 512,
        set_max_listpack_entries: 128,
        set_max_listpack_value: 64,
        zset_max_listpack_entries: 128,
        zset_max_listpack_value: 64,
        stream_node_max_bytes: 4096,
        stream_node_max_entries: 100,
        hll_sparse_max_bytes: 3000,
        import_mode: false,
        any_dump_version: false,
    };
}
