//! PostgreSQL's and MySQL's protocols as far as a login, for the side of the server and that of the client, and as much of
//! what follows as it takes to know whether a connection is idle.
//!
//! Everything works on bytes or on any `AsyncRead + AsyncWrite`. There is no socket, task or clock here, and no policy:
//! deadlines, TLS, and which password goes where are the caller's.

pub mod mysql;
pub mod postgres;
