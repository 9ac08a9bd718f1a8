//! The client's half of a login: its response to the greeting, and whatever its authentication plugin needs to hear to
//! believe that it is logged in. Any user, any password and no password are taken.
//!
//! ```text
//!   ─▶ HandshakeResponse41 ─┬─ answers for the plugin that was offered ────────────────────▶ Login
//!                           ├─ mysql_clear_password, or no plugins at all ─────────────────▶ Login
//!                           └─ for another: ◀─ AuthSwitchRequest ─▶ its answer ────────────▶ Login
//!                                                         Login, when upstream has said OK:
//!                              ◀─ AuthMoreData (fast_auth_success)   caching_sha2_password with a password
//!                              ◀─ OK of the server
//! ```
//!
//! A client whose own first choice is another plugin than the one offered sends nothing for it and waits to be asked
//! (`run_plugin_auth` of libmysqlclient and libmariadb): an OK at once would be an error to it.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    codec::{self, MAX_LOGIN_PACKET},
    error::{Error, Turn},
    greeting::{Greeting, Scramble},
    login::LoggedIn,
    message::{self, Plugin},
    response::{self, HandshakeResponse},
};

const WAITING_FOR: &str = "the client's response to the greeting";

/// What a client turned out to want.
#[derive(Debug)]
pub enum Accepted {
    /// To log in.
    Login(Login),
    /// Nothing: it went away when it had seen the greeting. A port probe, or a client that insists on TLS
    /// (`--ssl-mode=REQUIRED`; MariaDB's since 11.4 unless told `--skip-ssl`), or one that found it cannot do what it
    /// was asked for.
    Gone,
}

/// A client that waits for OK or ERR.
#[derive(Debug)]
pub struct Login {
    /// What it wants.
    pub response: HandshakeResponse,
    /// The sequence number of the next packet to it.
    sequence: u8,
    /// It wants to hear that its password is known before it hears OK.
    fast_auth: bool,
}

impl Login {
    /// Where an error for this client goes in its conversation.
    pub fn turn(&self) -> Turn {
        Turn::answer(self.sequence)
    }
}

/// Reads the client's response to a greeting sent with [`greet`](super::greet), and answers its plugin as far as that
/// can be done before the server has spoken.
///
/// Not cancel safe: a packet read in part is lost. Waits for the client as long as it takes: the deadline is the
/// caller's.
///
/// # Errors
/// What a client may be told is in [`Error::report`]; [`Error::turn`] says where it goes.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    greeting: &Greeting,
    scramble: &Scramble,
) -> Result<Accepted, Error> {
    let Some(packet) = codec::read_packet_or_end(client, 1, WAITING_FOR).await? else { return Ok(Accepted::Gone) };
    let mut sequence = packet.next();
    let (response, authentication) = HandshakeResponse::parse(&packet.payload, greeting.offered())?;
    let offered = greeting.offered_plugin();
    let mut password = authentication.password;
    let mut plugin = authentication.plugin;
    if let Some(switch_to) = plugin.as_ref().and_then(|named| switch(named, &offered)) {
        let request = auth_switch_request(&switch_to, scramble);
        codec::send(client, &codec::packet(sequence, &request), WAITING_FOR).await?;
        let Some(packet) = codec::read_packet_or_end(client, sequence.wrapping_add(1), WAITING_FOR).await? else {
            return Ok(Accepted::Gone);
        };
        sequence = packet.next();
        password = response::is_password(&packet.payload);
        plugin = Some(switch_to);
    }
    let fast_auth = password && plugin == Some(Plugin::CachingSha2);
    Ok(Accepted::Login(Login { response, sequence, fast_auth }))
}

/// Tells the client that it is logged in, in the server's words. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// When the connection breaks.
pub async fn finish<S: AsyncWrite + Unpin>(client: &mut S, login: &Login, logged_in: &LoggedIn) -> Result<(), Error> {
    let mut sequence = login.sequence;
    let mut out = Vec::new();
    if login.fast_auth {
        out = codec::packet(sequence, &message::FAST_AUTH_SUCCESS);
        sequence = sequence.wrapping_add(1);
    }
    out.extend_from_slice(&logged_in.ok.encode(sequence));
    codec::send(client, &out, "the client's first command").await
}

/// The plugin to ask a client for that has `named` one, if it must be asked.
pub(super) fn switch(named: &Plugin, offered: &Plugin) -> Option<Plugin> {
    match named {
        named if named == offered => None,
        // Sends the password without having been asked for it.
        Plugin::Clear => None,
        Plugin::Native | Plugin::CachingSha2 => Some(named.clone()),
        // What it would ask is not known here: the one offered may do.
        Plugin::Other(_) => Some(offered.clone()),
    }
}

/// An AuthSwitchRequest's payload: plugin, scramble and a NUL.
pub(super) fn auth_switch_request(plugin: &Plugin, scramble: &Scramble) -> Vec<u8> {
    [&[message::AUTH_SWITCH][..], plugin.name(), &[0], scramble.bytes(), &[0]].concat()
}

const _: () = assert!(MAX_LOGIN_PACKET > 1 << 16, "connection attributes fit");
