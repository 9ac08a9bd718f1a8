//! Secrets Manager: the value of a secret, read as the login to a database.
//!
//! From the reply on, the text of a secret is in memory that is zeroed when dropped. It is unescaped here, because a parser of JSON would
//! leave copies behind. The buffer of an HTTP/1.1 connection is overwritten (`http`); TLS may leave a copy in memory that it has freed.

use serde::Deserialize;
use serde_json::{json, value::RawValue};
use zeroize::Zeroizing;

use super::{Account, Api, Error, Password};
use crate::target::{Endpoint, SecretId};

const OPERATION: &str = "GetSecretValue";

/// The version of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The one in use.
    Current,
    /// The one that a rotation is about to put in use. The database may know it already.
    Pending,
}

/// The part of the reply that is used.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "SecretString", borrow)]
    text: Option<&'a RawValue>,
}

/// The keys of AWS's rotation templates that are used. The rest (`engine`, `host`, `port`, `dbname`, `dbInstanceIdentifier`,
/// `masterarn`) is passed over: the target says which database it is.
#[derive(Deserialize)]
struct Template<'a> {
    #[serde(borrow)]
    username: Option<&'a RawValue>,
    #[serde(borrow)]
    password: Option<&'a RawValue>,
}

impl Account {
    /// The login in a secret. `None`: the secret has no version of this stage, which is usual for [`Stage::Pending`].
    ///
    /// # Errors
    /// [`Error::Secret`], and the errors of every call.
    pub(super) async fn secret(&self, id: &SecretId, stage: Stage) -> Result<Option<Password>, Error> {
        let region = id.region().unwrap_or(self.region());
        let label = match stage {
            Stage::Current => "AWSCURRENT",
            Stage::Pending => "AWSPENDING",
        };
        let input = json!({ "SecretId": id.as_str(), "VersionStage": label });
        let failed = |problem: String| Error::Secret { secret: format!("the secret {id}"), problem };
        let answer = match self.json_text(Api::SecretsManager, OPERATION, &input, region).await {
            Ok(answer) => answer,
            Err(Error::BadRequest { code, .. }) if code == "ResourceNotFoundException" => {
                return match stage {
                    Stage::Current => Err(failed(format!("it does not exist in {region}"))),
                    Stage::Pending => Ok(None),
                };
            }
            Err(error) => return Err(error),
        };
        read(&answer).map(Some).map_err(|problem| failed(problem.into()))
    }

    /// The secret of the master user that RDS manages for the database at `endpoint`.
    ///
    /// # Errors
    /// [`Error::NoMasterSecret`], and the errors of every call.
    pub(super) async fn master_secret(&self, endpoint: &Endpoint) -> Result<SecretId, Error> {
        let arn = self.master_secret_arn(&endpoint.host).await?;
        arn.and_then(|arn| arn.parse().ok()).ok_or_else(|| Error::NoMasterSecret { host: endpoint.host.to_string() })
    }
}

/// Reads the body of a reply.
fn read(answer: &str) -> Result<Password, &'static str> {
    let answer: Answer<'_> = serde_json::from_str(answer).map_err(|_| "the reply of Secrets Manager is malformed")?;
    let text = answer.text.ok_or("it is binary, not text")?;
    let text = unescape(text.get()).ok_or("its text is malformed")?;
    login(&text)
}

/// Reads the text of a secret: a JSON object, or the password alone.
fn login(text: &str) -> Result<Password, &'static str> {
    let trimmed = text.trim();
    if !(trimmed.starts_with('{') && trimmed.ends_with('}')) {
        return Password::of_line(None, text);
    }
    let template: Template<'_> = serde_json::from_str(trimmed).map_err(|_| "its text is not a valid JSON object")?;
    let password = template.password.ok_or("its JSON object has no key `password`")?;
    let password = unescape(password.get()).ok_or("the value of `password` is not a string")?;
    let user = match template.username {
        Some(user) => Some(unescape(user.get()).ok_or("the value of `username` is not a string")?.to_string()),
        None => None,
    };
    Password::new(user.filter(|user| !user.is_empty()), password)
}

/// The text of a string of JSON, which was validated before; `None` for any other value.
fn unescape(raw: &str) -> Option<Zeroizing<String>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    // No character takes more bytes than its escape.
    let mut text = Zeroizing::new(String::with_capacity(inner.len()));
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let first = code_unit(&mut chars)?;
                    match char::from_u32(first.into()) {
                        Some(c) => c,
                        None if chars.next()? == '\\' && chars.next()? == 'u' => {
                            char::decode_utf16([first, code_unit(&mut chars)?]).next()?.ok()?
                        }
                        None => return None,
                    }
                }
                other => other,
            },
            c => c,
        };
        text.push(c);
    }
    Some(text)
}

fn code_unit(chars: &mut std::str::Chars<'_>) -> Option<u16> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit << 4 | u16::try_from(chars.next()?.to_digit(16)?).ok()?;
    }
    Some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user and the password of a secret with this text.
    fn read_text(text: &str) -> Result<(Option<String>, String), &'static str> {
        let answer = json!({ "ARN": "arn", "Name": "x", "VersionStages": ["AWSCURRENT"], "SecretString": text });
        let login = read(&answer.to_string())?;
        Ok((login.user().map(str::to_owned), login.secret().expose().clone()))
    }

    #[test]
    fn secret_is_a_template_of_aws_or_the_password_alone() {
        let template = r#"{"engine":"postgres","host":"other.example","port":5432,"username":"app","password":"p\"\\/\u00e9\ud83d\ude00\n","dbname":"x","masterarn":null}"#;
        for (text, user, password) in [
            (template, Some("app"), "p\"\\/é😀\n"),
            (r#" {"username":"app","password":"x"} "#, Some("app"), "x"),
            (r#"{"password":"x","username":""}"#, None, "x"),
            ("hunter2", None, "hunter2"),
            ("two words\n", None, "two words"),
            ("{brace", None, "{brace"),
            ("\"quoted\"", None, "\"quoted\""),
        ] {
            assert_eq!(read_text(text), Ok((user.map(str::to_owned), password.to_owned())), "{text}");
        }
    }

    #[test]
    fn unusable_secret_is_an_error_without_its_text() {
        for (text, problem) in [
            ("", "the password is empty"),
            ("\n", "the password is empty"),
            ("a\0b", "the password holds a NUL character"),
            ("first\nsecond", "the password has more than one line"),
            (r#"{"username":"app"}"#, "its JSON object has no key `password`"),
            (r#"{"username":"app","password":5}"#, "the value of `password` is not a string"),
            (r#"{"username":7,"password":"x"}"#, "the value of `username` is not a string"),
            (r#"{"username":"app","password":""}"#, "the password is empty"),
            (r#"{"password":"x","password":"y"}"#, "its text is not a valid JSON object"),
            (r#"{"password":"x",}"#, "its text is not a valid JSON object"),
        ] {
            assert_eq!(read_text(text), Err(problem), "{text:?}");
        }
        for (answer, problem) in [
            (r#"{"SecretBinary":"aGk="}"#, "it is binary, not text"),
            (r#"{"SecretString":5}"#, "its text is malformed"),
            (r#"{"SecretString":"\ud83d"}"#, "its text is malformed"),
            ("[]", "the reply of Secrets Manager is malformed"),
            ("", "the reply of Secrets Manager is malformed"),
        ] {
            assert_eq!(read(answer).err(), Some(problem), "{answer}");
        }
    }

    #[test]
    fn password_has_no_debug_form() {
        let login = login(r#"{"username":"app","password":"hush"}"#).unwrap();
        assert_eq!(format!("{login:?}"), "Password of Some(\"app\")");
    }
}
