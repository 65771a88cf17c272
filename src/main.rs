//! The command line: wires the rooms together and knows nothing of their insides.

fn main() {}
