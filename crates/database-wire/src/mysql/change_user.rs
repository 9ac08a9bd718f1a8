//! COM_CHANGE_USER: another login on the same connection. The client's is read and never forwarded; ours has a token.
//!
//! | size | field |
//! |---|---|
//! | 1 | 0x11 |
//! | | user, a C string |
//! | | authentication data behind a length byte; a C string without CLIENT_SECURE_CONNECTION |
//! | | database, a C string |
//! | 2 | character set |
//! | | with CLIENT_PLUGIN_AUTH: plugin, a C string |
//! | | with CLIENT_CONNECT_ATTRS: as in a HandshakeResponse |
//!
//! (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_com_change_user.html>). The data is at most 255 bytes,
//! less than any token has, so ours names a plugin that is not the account's and waits for the AuthSwitchRequest.
//!
//! The server resets the session before it authenticates, and closes the connection when it refuses; so must we.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    accept::{self, Login},
    capabilities::Capabilities,
    codec::{self, Reader, put_lenenc_bytes, put_lenenc_int, put_packet},
    commands::COM_CHANGE_USER,
    error::Error,
    greeting::{Greeting, Scramble},
    login::{self, LoggedIn},
    message::OkPacket,
    plugin::Plugin,
    response::{Answer, Authentication, HandshakeResponse, is_password},
};
use crate::c_string::put_cstr;
use safe_display::Secret;

const WAITING_FOR: &str = "the client's COM_CHANGE_USER";
/// The most that a packet has beside names, data and attributes: header, command, character set, length of the attributes.
const FIXED: usize = 4 + 1 + 2 + 9;

/// Reads a COM_CHANGE_USER from a client that logged in as `current`, through
/// [`take_over`](super::Commands::take_over). The answer is [`finish`](super::finish)ed or an ERR at
/// [`Login::position`](super::Login::position). The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Error::ChangeUser`], and whatever breaks the connection; the client may hear it as the answer to a command.
pub async fn accept_change_user<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    current: &HandshakeResponse,
    greeting: &Greeting,
    scramble: &Scramble,
) -> Result<Login, Error> {
    let packet = codec::read_packet(client, 0, WAITING_FOR).await?;
    let sequence = packet.next();
    let (response, authentication) = parse(&Zeroizing::new(packet.payload), current)?;
    let offered = greeting.offered_plugin();
    let switch_to = match &authentication.plugin {
        // No password, or a client that has forgotten the scramble: both answer when they are asked.
        Some(Plugin::CachingSha2) if !authentication.password => Some(Plugin::CachingSha2),
        // It has the scramble of the greeting and uses that.
        Some(Plugin::Native) | None => None,
        Some(named) => accept::switch(named, &offered),
    };
    accept::answer(client, response, authentication, switch_to, sequence, scramble)
        .await?
        .map_err(|_| Error::Closed { waiting_for: WAITING_FOR })
}

/// As [`accept_change_user`], with the client's answer for the server.
///
/// # Errors
/// As for [`accept_change_user`].
pub async fn accept_change_user_answer<S: AsyncRead + Unpin>(
    client: &mut S,
    current: &HandshakeResponse,
) -> Result<Login, Error> {
    let packet = codec::read_packet(client, 0, WAITING_FOR).await?;
    let sequence = packet.next();
    let payload = Zeroizing::new(packet.payload);
    let (response, plugin, data) = parse_with_data(&payload, current)?;
    let answer = Answer { plugin: plugin.unwrap_or(Plugin::Native), data: Zeroizing::new(data.to_vec()) };
    Ok(Login::answered(response, sequence, answer))
}

/// Logs in again with `response` on a connection that is logged in and has answered all commands. The caller sets the
/// deadline. Not cancel safe.
///
/// # Errors
/// As [`login`](fn@super::login). The connection is of no use any more.
pub async fn change_user<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    logged_in: &LoggedIn,
    response: &HandshakeResponse,
    token: &Secret<String>,
) -> Result<OkPacket, Error> {
    let packet = encode(response, logged_in.capabilities, &Plugin::Native, b"")?;
    codec::send(upstream, &packet, WAITING_FOR).await?;
    login::verdict(upstream, 1, token).await.map_err(|error| error.of_login(response))
}

fn parse(payload: &[u8], current: &HandshakeResponse) -> Result<(HandshakeResponse, Authentication), Error> {
    let (response, plugin, data) = parse_with_data(payload, current)?;
    Ok((response, Authentication { plugin, password: is_password(data) }))
}

/// The response, the plugin that the client names, and its answer for that.
type Parsed<'a> = (HandshakeResponse, Option<Plugin>, &'a [u8]);

fn parse_with_data<'a>(payload: &'a [u8], current: &HandshakeResponse) -> Result<Parsed<'a>, Error> {
    let capabilities = current.capabilities;
    let mut reader = Reader::new(payload);
    if reader.byte() != Some(COM_CHANGE_USER) {
        return Err(Error::ChangeUser("it is another command"));
    }
    let mut response = current.clone();
    response.set_user(reader.cstr().ok_or(Error::ChangeUser("the user has no end"))?)?;
    let data = if capabilities.contains(Capabilities::SECURE_CONNECTION) {
        reader.byte().and_then(|length| reader.bytes(length.into()))
    } else {
        reader.cstr()
    };
    let data = data.ok_or(Error::ChangeUser("the authentication data has no end"))?;
    // Here and below: what is missing at the end is as it was, for servers of all ages.
    response.set_database(reader.last_cstr())?;
    if let Some(charset) = reader.u16() {
        response.charset = charset;
    }
    let plugin = capabilities.contains(Capabilities::PLUGIN_AUTH) && !reader.is_empty();
    let plugin = plugin.then(|| Plugin::from(reader.last_cstr()));
    if capabilities.contains(Capabilities::CONNECT_ATTRS) && !reader.is_empty() {
        let attributes = reader.lenenc_bytes().ok_or(Error::ChangeUser("the connection attributes have no end"))?;
        response.attributes = Some(Bytes::copy_from_slice(attributes));
    }
    Ok((response, plugin, data))
}

/// The packet for upstream. The data is at most 255 bytes; it may be a password, of which a growing vector would leave copies behind.
pub(super) fn encode(
    response: &HandshakeResponse,
    capabilities: Capabilities,
    plugin: &Plugin,
    data: &[u8],
) -> Result<Vec<u8>, Error> {
    let parts = [response.user(), data, response.database().unwrap_or_default(), plugin.name()];
    let attributes = response.attributes().unwrap_or_default();
    let room = parts.iter().map(|part| part.len() + 1).sum::<usize>() + attributes.len();
    let mut out = Vec::with_capacity(room + FIXED);
    put_packet(&mut out, 0, |out| {
        out.push(COM_CHANGE_USER);
        put_cstr(out, response.user(), "user")?;
        out.push(u8::try_from(data.len()).map_err(|_| Error::TokenLength)?);
        out.extend_from_slice(data);
        put_cstr(out, response.database().unwrap_or_default(), "database")?;
        out.extend_from_slice(&response.charset.to_le_bytes());
        put_cstr(out, plugin.name(), "authentication plugin")?;
        if capabilities.contains(Capabilities::CONNECT_ATTRS) {
            match response.attributes() {
                Some(attributes) => put_lenenc_bytes(out, attributes),
                None => put_lenenc_int(out, 0),
            }
        }
        Ok::<_, Error>(())
    })?;
    debug_assert!(out.len() <= room + FIXED, "it has not grown");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::mysql::{
        finish,
        script::{MARIADB, MARIADB_CLIENT, MYSQL, OK, PYMYSQL, Peer, greeting, response, scramble},
    };

    /// The packet of libmariadb 3.3.20, with a password.
    const TO_READONLY: &[u8] =
        b"\x11readonly\0\x14aaaaaaaaaaaaaaaaaaaaother\0\x2d\0mysql_native_password\0\x0a\x03_os\x05Linux";
    const ATTRIBUTES: &[u8] = b"\x03_os\x05Linux";

    fn current() -> HandshakeResponse {
        response(MARIADB_CLIENT, &greeting(MARIADB))
    }

    /// A client of a server that greeted so asks for another user and plays `script` up to the answer.
    async fn asked(server: &[u8], payload: &[u8], script: impl AsyncFnOnce(&mut Peer)) -> Result<Login, Error> {
        let (mut ours, theirs) = duplex(1);
        let (greeting, scramble, current) = (greeting(server), scramble(), current());
        let mut client = Peer(theirs);
        let serve = async {
            let login = accept_change_user(&mut ours, &current, &greeting, &scramble).await?;
            finish(&mut ours, &login, &OkPacket::parse(OK.to_vec())?).await?;
            drop(ours);
            Ok(login)
        };
        let (result, ()) = tokio::join!(serve, async {
            client.send_packet(0, payload).await;
            script(&mut client).await;
        });
        result
    }

    #[tokio::test]
    async fn a_client_becomes_another_user_at_once() {
        let login = asked(MARIADB, TO_READONLY, async |client| client.expect_packet(1, OK).await).await.unwrap();
        let response = login.response;
        assert_eq!((response.user(), response.database()), (&b"readonly"[..], Some(&b"other"[..])));
        assert_eq!((response.charset, response.attributes()), (45, Some(ATTRIBUTES)));
        assert_eq!(response.capabilities, current().capabilities);
    }

    #[tokio::test]
    async fn what_an_old_client_does_not_say_stays() {
        let login = asked(MARIADB, b"\x11u\0\0\0", async |client| client.expect_packet(1, OK).await).await.unwrap();
        let response = login.response;
        assert_eq!((response.user(), response.database(), response.charset), (&b"u"[..], None, 33));
        assert_eq!(response.attributes(), current().attributes());
    }

    #[tokio::test]
    async fn a_client_that_needs_to_be_asked_is() {
        for (plugin, data, switch) in [
            ("caching_sha2_password", &b"\0"[..], Some("caching_sha2_password")),
            ("caching_sha2_password", b"\x01x", None),
            ("mysql_native_password", b"\0", None),
            ("mysql_clear_password", b"\x05hush\0", None),
            ("dialog", b"\0", Some("caching_sha2_password")),
        ] {
            let payload = [b"\x11u\0", data, b"\0\x2d\0", plugin.as_bytes(), b"\0"].concat();
            asked(MYSQL, &payload, async |client| {
                let mut next = 1;
                if let Some(plugin) = switch {
                    client.expect_packet(1, &[b"\xfe", plugin.as_bytes(), b"\0abcdefghijklmnopqrst\0"].concat()).await;
                    client.send_packet(2, &[7; 32]).await;
                    next = 3;
                }
                if switch.is_some() || (plugin, data.len()) == ("caching_sha2_password", 2) {
                    client.expect_packet(next, &[1, 3]).await;
                    next += 1;
                }
                client.expect_packet(next, OK).await;
            })
            .await
            .unwrap();
        }
    }

    #[tokio::test]
    async fn one_cut_short_is_refused_unless_servers_take_it() {
        let (whole, database) = (TO_READONLY.len(), TO_READONLY.len() - 41);
        for end in 0..whole {
            match parse(&TO_READONLY[..end], &current()) {
                Ok((response, _)) => assert!(end >= 31 && response.user() == b"readonly", "cut at {end}"),
                Err(error) => assert!(matches!(error, Error::ChangeUser(_)) && (end < 31 || end > database), "{end}"),
            }
        }
        assert!(matches!(parse(b"\x03select 1", &current()), Err(Error::ChangeUser(_))));
    }

    #[tokio::test]
    async fn the_token_waits_for_the_switch_and_the_rest_is_the_clients() {
        let greeting = greeting(MYSQL);
        let mut response = response(PYMYSQL, &greeting);
        response.set_user(b"readonly").unwrap();
        let logged_in = LoggedIn { ok: OkPacket::parse(OK.to_vec()).unwrap(), capabilities: response.capabilities };
        let (mut ours, theirs) = duplex(7);
        let mut server = Peer(theirs);
        let token = Secret::new("t".repeat(1000));
        let (result, ()) = tokio::join!(change_user(&mut ours, &logged_in, &response, &token), async {
            let expected = [
                b"\x11readonly\0\0appdb\0\x2d\0mysql_native_password\0\x36".as_slice(),
                response.attributes().unwrap(),
            ];
            server.expect_packet(0, &expected.concat()).await;
            server.send_packet(1, b"\xfemysql_clear_password\0").await;
            server.expect_packet(2, &[token.expose().as_bytes(), b"\0"].concat()).await;
            server.send_packet(3, OK).await;
        });
        assert_eq!(result.unwrap(), logged_in.ok);
    }
}
