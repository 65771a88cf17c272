//! The one integration-test binary: it starts the real program and talks to it over sockets.
