//! A server that only reads and writes: the least that any server can cost on this machine and runtime.
//!
//! `cargo bench --bench null -- PORT` answers each `GET key:000000000000` with 32 bytes, without looking at it. `scripts/bench`
//! holds Cenote's CPU time a request against it. Its connections, buffers and runtime are as in `server/worker`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of such a request.
const REQUEST: usize = 36;
const REPLY: &[u8] = b"$32\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

async fn serve(mut socket: TcpStream) {
    let replies = REPLY.repeat(READ_BYTES / REQUEST);
    poll_fn(|cx| {
        INPUT.with_borrow_mut(|input| {
            loop {
                let mut buffer = ReadBuf::new(input);
                match Pin::new(&mut socket).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
                // Whatever else is asked, as CONFIG GET, gets an answer too.
                let is_ping = buffer.filled().ends_with(b"PING\r\n");
                let count = (buffer.filled().len() / REQUEST).max(1);
                let reply = if is_ping { b"+PONG\r\n" } else { &replies[..count * REPLY.len()] };
                if !matches!(Pin::new(&mut socket).poll_write(cx, reply), Poll::Ready(Ok(_))) {
                    return Poll::Ready(());
                }
            }
        })
    })
    .await;
}

fn main() -> std::io::Result<()> {
    let port = std::env::args().find_map(|word| word.parse().ok());
    // `cargo test --benches` and a bare `cargo bench` run every bench: this one has nothing to say without a port.
    let Some(port) = port else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            tokio::task::spawn_local(serve(socket));
        }
    })
}
