//! The values of one source.

use std::{collections::BTreeMap, net::Ipv6Addr};

use super::{
    error::Error,
    options::Key,
    origin::{Origin, Setting},
};

/// The values of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer(BTreeMap<Key, Setting>);

impl Layer {
    /// The value of a key, if this source has one.
    pub fn get(&self, key: Key) -> Option<&Setting> {
        self.0.get(&key)
    }

    /// The keys that it has, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Setting)> {
        self.0.iter().map(|(key, setting)| (*key, setting))
    }

    /// Sets a key.
    pub fn set(&mut self, key: Key, value: String, origin: Origin) {
        self.0.insert(key, Setting { value, origin });
    }

    /// Moves the port of `host = "name:port"` to the key `port` of the same layer.
    ///
    /// # Errors
    /// [`Error::TwoPorts`] when the layer has another port as well.
    pub fn split_port(&mut self) -> Result<(), Error> {
        let Some(host) = self.0.get_mut(&Key::Host) else { return Ok(()) };
        // An ARN has colons of its own, and so have a task of ECS and an IPv6 address without brackets.
        let is_whole = host.value.starts_with("arn:") || host.value.parse::<Ipv6Addr>().is_ok();
        let host_and_port = host.value.rsplit_once(':').filter(|(name, _)| !is_whole && *name != "ecs");
        let Some((name, port)) = host_and_port else { return Ok(()) };
        let (name, port, origin) = (name.to_owned(), port.to_owned(), host.origin.clone());
        host.value = name;
        match self.0.get(&Key::Port) {
            Some(other) if other.value != port => {
                Err(Error::TwoPorts { origin, in_host: port, in_port: other.value.clone() })
            }
            Some(_) => Ok(()),
            None => {
                self.set(Key::Port, port, origin);
                Ok(())
            }
        }
    }
}

impl FromIterator<(Key, String, Origin)> for Layer {
    fn from_iter<I: IntoIterator<Item = (Key, String, Origin)>>(settings: I) -> Self {
        Self(settings.into_iter().map(|(key, value, origin)| (key, Setting { value, origin })).collect())
    }
}
