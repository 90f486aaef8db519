//! Connections that can be closed in the middle of a request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// One TCP connection. It is cut below HTTP, so that a client sees no status line: an error in a response's body
/// would come after one.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<Line>);

#[derive(Debug, Default)]
struct Line {
    cut: AtomicBool,
    reader: AtomicWaker,
}

impl Connection {
    /// Closes the connection; nothing that is written from now on reaches the client.
    pub(super) fn cut(&self) {
        self.0.cut();
    }
}

impl Line {
    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.reader.wake();
    }

    fn check(&self) -> io::Result<()> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl Connected<IncomingStream<'_, CuttingListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, CuttingListener>) -> Self {
        stream.remote_addr().clone()
    }
}

/// The connections that were accepted, for closing them all.
#[derive(Debug, Clone, Default)]
pub(super) struct Open(Arc<Mutex<Vec<Weak<Line>>>>);

impl Open {
    fn add(&self, line: &Arc<Line>) {
        let mut lines = self.0.lock();
        lines.retain(|line| line.strong_count() > 0);
        lines.push(Arc::downgrade(line));
    }

    pub(super) fn cut_all(&self) {
        for line in self.0.lock().drain(..).filter_map(|line| line.upgrade()) {
            line.cut();
        }
    }
}

/// Accepts connections that can be cut.
#[derive(Debug)]
pub(super) struct CuttingListener {
    pub inner: TcpListener,
    pub open: Open,
}

impl Listener for CuttingListener {
    type Io = CuttableStream;
    type Addr = Connection;

    async fn accept(&mut self) -> (CuttableStream, Connection) {
        let (inner, _) = Listener::accept(&mut self.inner).await;
        // Only speed depends on it: small answers would wait for the client's acknowledgement.
        let _ = inner.set_nodelay(true);
        let line = Arc::new(Line::default());
        self.open.add(&line);
        (
            CuttableStream {
                inner,
                line: Arc::clone(&line),
            },
            Connection(line),
        )
    }

    fn local_addr(&self) -> io::Result<Connection> {
        Ok(Connection(Arc::default()))
    }
}

/// A stream that fails once it is cut, which makes the server drop and so close it.
#[derive(Debug)]
pub(super) struct CuttableStream {
    inner: TcpStream,
    line: Arc<Line>,
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.line.reader.register(context.waker());
        self.line.check()?;
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.line.check()?;
        Pin::new(&mut self.inner).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
