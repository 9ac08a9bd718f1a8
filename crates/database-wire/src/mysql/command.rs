//! Commands of our own on a connection that is logged in and has answered everything: a statement without a result, and
//! COM_RESET_CONNECTION in the client's stead.
//! (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_command_phase.html>)

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    capabilities::Capabilities,
    codec::{self, put_packet},
    commands::COM_RESET_CONNECTION,
    error::{Error, ServerError},
    message::{self, OkPacket},
};

/// COM_QUERY, with the statement behind it.
const COM_QUERY: u8 = 0x03;
const WAITING_FOR: &str = "OK of a command of rdsgate's";

/// Runs a statement that has no result, on a connection with these `capabilities`. The caller sets the deadline. Not
/// cancel safe.
///
/// # Errors
/// [`Error::Refused`] by the server, and whatever breaks the protocol or the connection.
pub async fn query<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    capabilities: Capabilities,
    statement: &str,
) -> Result<OkPacket, Error> {
    // parameter_count 0 and parameter_set_count 1, which is always 1
    // (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_com_query.html>).
    let parameters: &[u8] = if capabilities.contains(Capabilities::QUERY_ATTRIBUTES) { &[0, 1] } else { &[] };
    run(upstream, COM_QUERY, &[parameters, statement.as_bytes()].concat()).await
}

/// Resets the session: its variables are as after the login.
///
/// # Errors
/// As [`query`].
pub async fn reset_connection<S: AsyncRead + AsyncWrite + Unpin>(upstream: &mut S) -> Result<OkPacket, Error> {
    run(upstream, COM_RESET_CONNECTION, b"").await
}

/// Reads the client's COM_RESET_CONNECTION, through [`take_over`](super::Commands::take_over). The OK for it is number 1.
///
/// # Errors
/// Whatever breaks the connection.
pub async fn accept_reset_connection<S: AsyncRead + Unpin>(client: &mut S) -> Result<(), Error> {
    codec::read_packet(client, 0, "the client's COM_RESET_CONNECTION").await.map(drop)
}

/// Answers the client's command.
///
/// # Errors
/// Whatever breaks the connection.
pub async fn answer<S: AsyncWrite + Unpin>(client: &mut S, ok: &OkPacket) -> Result<(), Error> {
    codec::send(client, &ok.encode(1), "the client's next command").await
}

async fn run<S: AsyncRead + AsyncWrite + Unpin>(upstream: &mut S, command: u8, rest: &[u8]) -> Result<OkPacket, Error> {
    let mut packet = Vec::new();
    put_packet(&mut packet, 0, |out| {
        out.push(command);
        out.extend_from_slice(rest);
        Ok::<_, Error>(())
    })?;
    codec::send(upstream, &packet, WAITING_FOR).await?;
    let answer = codec::read_packet(upstream, 1, WAITING_FOR).await?;
    match answer.payload.first() {
        Some(&message::OK) => OkPacket::parse(answer.payload),
        Some(&message::ERR) => Err(Error::Refused(ServerError::parse(&answer.payload).ok_or(Error::Malformed("ERR"))?)),
        other => Err(Error::Unexpected { first: other.copied(), waiting_for: WAITING_FOR }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::script::{OK, packet};

    #[tokio::test]
    async fn a_statement_goes_out_and_its_verdict_comes_back() {
        let answer = packet(1, OK);
        let mut upstream = tokio::io::join(&answer[..], Vec::new());
        let ok = query(&mut upstream, Capabilities::PROTOCOL_41, "SET x=1").await.unwrap();
        assert_eq!(ok.encode(1), answer);
        assert_eq!(upstream.writer()[..], packet(0, b"\x03SET x=1"));

        let mut upstream = tokio::io::join(&answer[..], Vec::new());
        query(&mut upstream, Capabilities::QUERY_ATTRIBUTES, "SET x=1").await.unwrap();
        assert_eq!(upstream.writer()[..], packet(0, b"\x03\x00\x01SET x=1"));

        let denied = packet(1, b"\xff\xa9\x04#HY000Unknown system variable 'x'");
        let error =
            query(&mut tokio::io::join(&denied[..], Vec::new()), Capabilities::default(), "SET x=1").await.unwrap_err();
        assert!(matches!(&error, Error::Refused(refused) if refused.code() == 1193), "{error}");
        for other in [packet(1, b"\x01"), packet(1, b""), packet(2, OK), Vec::new()] {
            query(&mut tokio::io::join(&other[..], Vec::new()), Capabilities::default(), "SET x=1").await.unwrap_err();
        }
    }

    #[tokio::test]
    async fn reset_of_the_client_is_answered_and_sent_upstream() {
        let client = packet(0, &[COM_RESET_CONNECTION]);
        accept_reset_connection(&mut &client[..]).await.unwrap();
        let answer = packet(1, OK);
        let mut upstream = tokio::io::join(&answer[..], Vec::new());
        let ok = reset_connection(&mut upstream).await.unwrap();
        assert_eq!(upstream.writer()[..], client);
        let mut told = Vec::new();
        super::answer(&mut told, &ok).await.unwrap();
        assert_eq!(told, answer);
    }
}
