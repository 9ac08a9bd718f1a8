//! The secrets of Secrets Manager.

use safe_display::Secret;

/// A secret with its versions.
pub struct StoredSecret {
    /// The version with the stage AWSCURRENT.
    pub current: Secret<String>,
    /// The version with the stage AWSPENDING, while the secret is being rotated.
    pub pending: Option<Secret<String>>,
    /// Whether it is handed out as bytes; the value is then in base64.
    pub binary: bool,
}

impl StoredSecret {
    /// A secret with one version.
    pub fn new(value: impl Into<String>) -> Self {
        Self { current: Secret::new(value.into()), pending: None, binary: false }
    }

    /// The JSON object of AWS's rotation templates.
    pub fn login(user: &str, password: &str) -> Self {
        Self::new(Self::template(user, password))
    }

    /// Begins a rotation: this login is pending.
    pub fn begin_rotation(&mut self, user: &str, password: &str) {
        self.pending = Some(Secret::new(Self::template(user, password)));
    }

    /// Ends a rotation: the pending version is the current one.
    pub fn finish_rotation(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.current = pending;
        }
    }

    fn template(user: &str, password: &str) -> String {
        serde_json::json!({
            "engine": "postgres",
            "host": "another.host.example",
            "username": user,
            "password": password,
            "port": 1,
            "dbname": "another",
            "dbInstanceIdentifier": "another",
        })
        .to_string()
    }
}
